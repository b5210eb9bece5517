// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_STATE_LOCKED: {
    kind: 'conflict',
    summary: 'Another daemon uses the state directory.',
    hint: 'stop the other daemon, or give this one a state_dir of its own',
  },
  ERR_STATE_DIR: {
    kind: 'unavailable',
    summary: 'The state directory could not be set up.',
    hint: 'check the path in state_dir, its owner and its permissions',
  },
  ERR_ACTIVATION: {
    kind: 'invalid',
    summary: 'A socket that the service manager passed cannot be used.',
    hint: 'check the socket units: stream sockets, FileDescriptorName=nbd or admin, Accept=no',
  },
  ERR_NOTIFY: {
    kind: 'invalid',
    summary: 'What the service manager says about how it wants to be told cannot be used.',
    hint: 'unset NOTIFY_SOCKET and WATCHDOG_USEC, or let systemd set them',
  },
  ERR_RELOAD_RESTART: {
    kind: 'conflict',
    summary: 'The config was to be reloaded, and keys have changed that only a restart can change.',
    hint: 'systemctl restart keyhold, or take these changes back and reload the others',
  },
  ERR_RELOAD_IDENTITY: {
    kind: 'conflict',
    summary: 'The config was to be reloaded, and an identity is gone that a set uses.',
    hint: 'put the identity back, or delete the sets that use it first; keyhold set list shows them',
  },
  ERR_SERVE_OFFLINE: {
    kind: 'conflict',
    summary: 'A disk was to be served over standard input and output, and is offline.',
    hint: 'keyhold disk show DISK tells why',
  },
  ERR_SERVE_DENIED: {
    kind: 'forbidden',
    summary: 'The allow list of a disk does not admit the user who asked to be served.',
    hint: 'keyhold disk allow DISK lists who may use it',
  },
  ERR_DOCTOR_BUSY: {
    kind: 'unavailable',
    summary: 'Too many examinations by `keyhold doctor` run at the same time.',
    hint: 'wait for the others to end; each takes seconds, or a few time limits of the vault',
  },
  ERR_IDENTITY_AMBIGUOUS: {
    kind: 'invalid',
    summary: 'An identity was left out, and the config does not have exactly one.',
    hint: "name one of the config's identities with --identity, or add [identity.NAME] to the config",
  },
});

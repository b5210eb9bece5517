// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_DEVVAULT_NOT_LOOPBACK: {
    kind: 'usage',
    summary: 'The embedded vault was told to listen on an address that is not loopback.',
    hint: 'use 127.0.0.1 or ::1; the embedded vault is for one machine only',
  },
  ERR_DEVVAULT_PORT_TAKEN: {
    kind: 'conflict',
    summary: 'Another program listens on the embedded vault’s port.',
    hint: 'stop that program; key ids contain the port, so another one breaks existing sets',
  },
  ERR_DEVVAULT_LISTEN: {
    kind: 'unavailable',
    summary: 'The embedded vault could not listen on its port or its control socket.',
    hint: 'look at the cause in the message; the address must exist and the directory be writable',
  },
  ERR_DEVVAULT_ALREADY_RUNNING: {
    kind: 'conflict',
    summary: 'Another embedded vault serves the same state directory.',
    hint: 'stop the other process or use another state directory',
  },
  ERR_DEVVAULT_SOCKET_PATH: {
    kind: 'invalid',
    summary: 'The path of the control socket is longer than a unix socket address can be.',
    hint: 'use a state directory with a shorter path',
  },
  ERR_DEVVAULT_STATE: {
    kind: 'integrity',
    summary: 'The embedded vault’s state file or client secret cannot be used.',
    hint: 'restore it from a copy, or delete the state directory to start with an empty vault',
  },
  ERR_DEVVAULT_CERTIFICATE: {
    kind: 'integrity',
    summary: 'The embedded vault’s certificates cannot be used.',
    hint: 'delete ca.pem, ca.key, server.pem and server.key; the next start makes new ones',
  },
  ERR_DEVVAULT_INPUT: {
    kind: 'invalid',
    summary: 'The embedded vault’s control socket got a request that it cannot accept.',
    hint: 'the message names the field; see keyhold vault --help',
  },
  ERR_DEVVAULT_NO_COMMAND: {
    kind: 'not-found',
    summary: 'The embedded vault’s control socket does not know this command.',
    hint: 'use the same version of keyhold for the vault and its commands',
  },
  ERR_DEVVAULT_KEY_NOT_FOUND: {
    kind: 'not-found',
    summary: 'The embedded vault has no such key or key version.',
    hint: 'keyhold vault list shows them; a deleted key can be recovered',
  },
  ERR_DEVVAULT_KEY_CONFLICT: {
    kind: 'conflict',
    summary: 'The key’s name is taken, or the key is not in the state that the command needs.',
    hint: 'recover or purge a deleted key before its name is used again',
  },
  ERR_DEVVAULT_FORBIDDEN: {
    kind: 'forbidden',
    summary: 'The embedded vault’s own rules forbid the command, such as purge protection.',
    hint: 'a vault with a recovery level that contains Purgeable allows purging',
  },
  ERR_DEVVAULT_UNREACHABLE: {
    kind: 'unavailable',
    summary: 'The embedded vault’s control socket does not answer.',
    hint: 'start it with npm start or keyhold dev, and name the same state directory',
  },
  ERR_DEVVAULT_ANSWER: {
    kind: 'internal',
    summary: 'The embedded vault’s control socket answered something unexpected.',
    hint: 'use the same version of keyhold for the vault and its commands',
  },
});

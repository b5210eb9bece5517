// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_SET_EXISTS: {
    kind: 'conflict',
    summary: 'An encryption set of this name exists already.',
    hint: 'choose another name, or delete the set first',
  },
  ERR_SET_BUSY: {
    kind: 'conflict',
    summary: 'Another command is creating or deleting the encryption set.',
    hint: 'wait for the other command and try again',
  },
  ERR_SET_NOT_FOUND: {
    kind: 'not-found',
    summary: 'No encryption set has this name.',
    hint: 'keyhold set list shows the sets',
  },
  ERR_SET_OPTION: {
    kind: 'invalid',
    summary:
      'A time of an encryption set is outside its range, or lease and probe interval do not fit.',
    hint: 'make the lease longer than the probe interval plus the probe timeout',
  },
  ERR_SET_RECORD: {
    kind: 'integrity',
    summary: 'The record of an encryption set cannot be read.',
    hint: 'restore the file that the message names from a backup, then restart the daemon',
  },
  ERR_SET_KEY_VERIFY: {
    kind: 'integrity',
    summary: 'The vault unwrapped a new set key to something else than what was wrapped.',
    hint: 'check that the key URL leads to the vault that you mean; nothing was created',
  },
  ERR_SET_PROBE: {
    kind: 'key-inaccessible',
    summary: 'The first probe of a new encryption set did not prove access to its customer key.',
    hint: 'grant the identity get, wrapKey and unwrapKey on the key; the message has the answer of the vault',
  },
  ERR_SET_IN_USE: {
    kind: 'conflict',
    summary: 'The encryption set still has disks.',
    hint: 'delete the disks of the set first',
  },
  ERR_SET_DENIED: {
    kind: 'key-inaccessible',
    summary: 'Key Vault denies the customer key of the encryption set.',
    hint: 'keyhold set show SET has the answer of the vault; enable the key or grant access, then keyhold set check SET',
  },
  ERR_SET_LAPSED: {
    kind: 'key-inaccessible',
    summary:
      'Key Vault has not proved access to the customer key for as long as the lease lasts, or not yet.',
    hint: 'check the way to the vault (DNS, proxy, firewall), then keyhold set check SET',
  },
  ERR_SET_KEY_UNAVAILABLE: {
    kind: 'key-inaccessible',
    summary: 'The set key cannot be had in any way, so it cannot be wrapped by another key.',
    hint: 'enable the old key for as long as the change takes; a second customer key or an availability key would have helped',
  },
  ERR_SET_VERSIONS: {
    kind: 'conflict',
    summary: 'Headers of the set depend on too many key versions for another one.',
    hint: 'keyhold set show SET names the disks whose headers cannot be updated; make their stores accessible or delete them',
  },
  ERR_SET_SPREAD: {
    kind: 'unavailable',
    summary: 'The key was rewrapped, but some headers could not be updated yet.',
    hint: 'make the stores accessible that keyhold set show SET names; it is tried again by itself. Keep the old version enabled',
  },
  ERR_SET_NOT_DENIED: {
    kind: 'conflict',
    summary: 'A purge needs every customer key of the set to be denied first.',
    hint: 'disable or delete every customer key in its vault, or take the access away, then repeat the command',
  },
  ERR_SET_CONFIRMATION: {
    kind: 'invalid',
    summary: 'What destroys keys must be confirmed by the name of the object.',
    hint: 'repeat the command with --confirm and the name of the set or disk',
  },
  ERR_SET_DRILL: {
    kind: 'conflict',
    summary: 'A drill of the set is on, is not on, or cannot be held.',
    hint: 'keyhold set show SET tells of a drill; it ends by itself',
  },
  ERR_SET_PURGED: {
    kind: 'conflict',
    summary: 'The encryption set was purged; its keys are gone for ever.',
    hint: 'delete its disks and the set',
  },
  ERR_PLATFORM_KEY_MISSING: {
    kind: 'unavailable',
    summary: 'The command needs the platform key of this host, and the daemon has none.',
    hint: 'keyhold platform-key init FILE makes one; name it in [platform_key] of the config and restart the daemon',
  },
  ERR_PLATFORM_KEY_OTHER: {
    kind: 'unavailable',
    summary: 'Something was sealed by another platform key than this host has.',
    hint: 'give the daemon the platform key that the message names, as a file or credential',
  },
  ERR_SET_CLOSED: {
    kind: 'conflict',
    summary: 'The encryption set was deleted or the daemon is stopping.',
    hint: 'repeat the command when the daemon runs',
  },
});

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
  ERR_SET_CLOSED: {
    kind: 'conflict',
    summary: 'The encryption set was deleted or the daemon is stopping.',
    hint: 'repeat the command when the daemon runs',
  },
});

// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_DISK_EXISTS: {
    kind: 'conflict',
    summary: 'A disk of this name exists already.',
    hint: 'choose another name, or delete the disk first',
  },
  ERR_DISK_NOT_FOUND: {
    kind: 'not-found',
    summary: 'No disk has this name.',
    hint: 'keyhold disk list shows the disks',
  },
  ERR_DISK_BUSY: {
    kind: 'conflict',
    summary: 'Another command is creating or deleting the disk.',
    hint: 'wait for the other command and try again',
  },
  ERR_DISK_OPTION: {
    kind: 'invalid',
    summary: 'A size, sector size, path or description of a new disk is not what it may be.',
    hint: 'use a size that is a multiple of the sector size (512 or 4096), an absolute path, and a description of one line',
  },
  ERR_DISK_RECORD: {
    kind: 'integrity',
    summary: 'The record of a disk cannot be read.',
    hint: 'restore the file that the message names from a backup, then restart the daemon',
  },
  ERR_DISK_KEY_INACCESSIBLE: {
    kind: 'key-inaccessible',
    summary: 'The disk cannot be attached, because its key is not accessible.',
    hint: 'keyhold set show SET has the answer of the vault; with access restored, attached disks heal by themselves',
  },
  ERR_DISK_ONLINE: {
    kind: 'conflict',
    summary: 'The disk is in use, and the command needs it offline.',
    hint: 'keyhold disk detach DISK',
  },
  ERR_DISK_NOT_ATTACHED: {
    kind: 'conflict',
    summary: 'The disk is not attached, so it cannot be restarted.',
    hint: 'keyhold disk attach DISK',
  },
  ERR_DISK_UNUSABLE: {
    kind: 'conflict',
    summary: 'The disk was erased or is fenced and cannot be attached.',
    hint: 'delete the disk',
  },
  ERR_DISK_LAYERS: {
    kind: 'conflict',
    summary: 'A disk cannot move between a set with double encryption and one without.',
    hint: 'choose a set of the same kind; the number of layers is part of the store',
  },
  ERR_DISK_CONFIRMATION: {
    kind: 'invalid',
    summary: 'Erasing a disk, or exporting its key, must be confirmed by its name.',
    hint: 'repeat the command with --confirm and the name of the disk',
  },
  ERR_DISK_KEY_LAYER: {
    kind: 'invalid',
    summary: 'A disk that is encrypted twice has two keys to export, and any other has one.',
    hint: 'export each of the two with --layer inner and --layer outer; leave the option out for a disk with one',
  },
  ERR_DISK_CLOSED: {
    kind: 'unavailable',
    summary: 'The daemon is stopping, or the disk was deleted meanwhile.',
    hint: 'repeat the command when the daemon runs',
  },
  ERR_ACCESS_RULE: {
    kind: 'invalid',
    summary:
      'A rule of an allow list cannot be read, or a disk would have too many; nothing changed.',
    hint: 'write conditions such as uid=1000, san=DNS:vm1.example or cidr=10.0.0.0/8, joined by and',
  },
  ERR_ACCESS_RULE_UNKNOWN: {
    kind: 'not-found',
    summary: 'The allow list of the disk has no such rule to remove; nothing changed.',
    hint: 'keyhold disk allow DISK lists the rules',
  },
  ERR_STORE_EXISTS: {
    kind: 'conflict',
    summary: 'The store of a new disk exists already and is not empty.',
    hint: 'choose another path; if nothing refers to the file, remove it and create the disk again',
  },
  ERR_STORE_KIND: {
    kind: 'invalid',
    summary: 'The store of a disk is not a regular file.',
    hint: 'give the path of a file that does not exist yet, or of an empty one',
  },
  ERR_STORE_CREATE: {
    kind: 'unavailable',
    summary: 'The store of a new disk could not be created.',
    hint: 'check the path and its permissions; nothing was created',
  },
  ERR_STORE_NO_SPACE: {
    kind: 'no-space',
    summary: 'The store of a new disk does not fit into its file system.',
    hint: 'free space, or put the store on another file system; nothing was created',
  },
  ERR_STORE_DELETE: {
    kind: 'unavailable',
    summary: 'The store of a disk could not be deleted; the disk remains.',
    hint: 'check the permissions of the directory and delete the disk again',
  },
  ERR_STORE_READ: {
    kind: 'unavailable',
    summary: 'The header of a store could not be read or written.',
    hint: 'check the path, its permissions and the file system under it',
  },
  ERR_HEADER_MISMATCH: {
    kind: 'integrity',
    summary: 'The header of the store belongs to another disk or another encryption set.',
    hint: 'the store was moved or exchanged; put the right file in its place',
  },
});

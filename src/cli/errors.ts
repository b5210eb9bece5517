// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_CLI_USAGE: {
    kind: 'usage',
    summary: 'The command line is wrong.',
    hint: '`keyhold COMMAND --help` shows what a command takes',
  },
  ERR_CLI_DISK_NOT_ONLINE: {
    kind: 'key-inaccessible',
    summary:
      'The disk is attached, but could not be brought online; the exit code goes by its reason.',
    hint: 'it comes online by itself once the cause is gone; `keyhold disk show DISK` says more',
  },
  ERR_CLI_OUTPUT: {
    kind: 'unavailable',
    summary: 'A file that was asked for with --output could not be written; none is left.',
    hint: 'check the directory, its permissions, and the space on its file system',
  },
  ERR_CLI_INPUT: {
    kind: 'usage',
    summary: 'A file that the command line names could not be read.',
    hint: 'check that the file exists and that you may read it',
  },
  ERR_CLI_STDIO: {
    kind: 'unavailable',
    summary: 'The connection to the daemon broke off while a disk was served over standard input.',
    hint: '`keyhold status` tells whether the daemon runs; it cuts off clients of offline disks',
  },
  ERR_CLI_STATE_DIRECTORY: {
    kind: 'usage',
    summary: 'The state directory of `keyhold dev` cannot be used.',
    hint: 'name another directory with --state DIR; its path must leave room for socket names',
  },
  ERR_CLI_DEV_RUNNING: {
    kind: 'conflict',
    summary: 'Another `keyhold dev` uses the same state directory.',
    hint: 'stop the other one first, or name another directory with --state DIR',
  },
  ERR_CLI_DEV_CONFIG: {
    kind: 'conflict',
    summary: 'The keyhold.toml in the state directory does not fit this `keyhold dev`.',
    hint: 'correct the value, or delete keyhold.toml to have it written anew; disks and keys stay',
  },
  ERR_CLI_DEV_CHILD: {
    kind: 'internal',
    summary: 'A process that `keyhold dev` started ended although nobody stopped it.',
    hint: 'its log in the state directory says why',
  },
  ERR_CLI_DEV_TIMEOUT: {
    kind: 'unavailable',
    summary: 'A process that `keyhold dev` started did not become ready in time.',
    hint: 'its log in the state directory may say why; a loaded machine can need a second try',
  },
});

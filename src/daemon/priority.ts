// SPDX-License-Identifier: Apache-2.0
import { constants, setPriority } from 'node:os';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';

/**
 * Lets this thread, and not those that exist besides it, go before others: it acts on revocations,
 * seldom and briefly, and shards under load would keep it waiting for milliseconds. Call it when
 * the shards' threads have been started, since new threads inherit it. Needs root, CAP_SYS_NICE or
 * RLIMIT_NICE; without them all is as it was.
 */
export function raiseControlThread(logger: Logger): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGH);
  } catch (error) {
    logger.info({ cause: messageOf(error) }, 'the control plane has no priority over the shards');
  }
}

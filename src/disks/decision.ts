// SPDX-License-Identifier: Apache-2.0
import type { SetAccess } from '../sets/access.js';
import type { LifecycleEvent } from './control.js';
import type { Decision } from './disk-hands.js';
import type { DiskCause } from './events.js';
import { causeOf } from './state-view.js';

/**
 * Why and when what follows an event was decided: by the denial that is acted on, else now.
 * `inherited`: what set the events in motion that an effect fed back.
 */
export function decisionOn(
  event: LifecycleEvent,
  known: {
    readonly access: SetAccess | undefined;
    readonly nowBootMs: number;
    readonly inherited: DiskCause | undefined;
  },
): Decision {
  const { access, nowBootMs, inherited } = known;
  const denial = event.kind === 'access' && access?.kind === 'denied' ? access.denial : undefined;
  return {
    cause: causeOf(event, inherited),
    decidedBootMs: denial?.confirmedBootMs ?? nowBootMs,
    verdictStartedBootMs: denial?.verdict.startedBootMs,
    verdictReceivedBootMs: denial?.verdict.receivedBootMs,
  };
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import type { Verdict } from '../vault/types.js';
import type { Alarm, EmitSetEvent, SetIdentity } from './access.js';

/** The alarm of one set: told when it is raised and when it is lowered, current in between. */
export class SetAlarm {
  readonly #options: { set: SetIdentity; clock: Clock; emit: EmitSetEvent };
  #alarm: Alarm | undefined;

  constructor(options: { set: SetIdentity; clock: Clock; emit: EmitSetEvent }) {
    this.#options = options;
  }

  get current(): Alarm | undefined {
    return this.#alarm;
  }

  raise(verdict: Verdict): void {
    const { set, clock, emit } = this.#options;
    const alarm: Alarm = {
      sinceMs: this.#alarm?.sinceMs ?? clock.nowMs(),
      code: verdict.code ?? verdict.class,
      message: verdict.message,
    };
    const raised = this.#alarm === undefined;
    this.#alarm = alarm;
    if (raised) emit('alarm', { set, raised: true, alarm });
  }

  lower(): void {
    const alarm = this.#alarm;
    this.#alarm = undefined;
    const { set, emit } = this.#options;
    if (alarm !== undefined) emit('alarm', { set, raised: false, alarm });
  }
}

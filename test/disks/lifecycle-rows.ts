// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import type {
  DiskControl,
  KeyAccess,
  LifecycleContext,
  LifecycleEvent,
  OfflineFacts,
  Transition,
} from '../../src/disks/control.js';
import { plainFacts, transition } from '../../src/disks/lifecycle.js';
import type { OfflineReason } from '../../src/disks/record.js';

export const NOW = 1_000_000;

export const disabled: OfflineFacts = {
  reason: 'key-disabled',
  sinceMs: 900_000,
  keyVersion: 'v1',
  vaultRequestId: 'r1',
  message: 'KeyDisabled',
};
export const GRANTED: KeyAccess = { kind: 'granted' };
export const DENIED: KeyAccess = { kind: 'denied', facts: disabled };
export const LAPSED: KeyAccess = { kind: 'lapsed', facts: plainFacts('lease-expired', 950_000) };
export const UNKNOWN: KeyAccess = { kind: 'unknown', facts: plainFacts('lease-expired', 950_000) };

export function offline(
  reason: OfflineReason,
  options: { attached?: boolean; waiting?: boolean } = {},
): DiskControl {
  const { attached = false, waiting = false } = options;
  return { attached, phase: { kind: 'offline', facts: plainFacts(reason, 1), waiting } };
}
export const online: DiskControl = {
  attached: true,
  phase: { kind: 'online', sinceMs: 1, revoked: null },
};
export const revoked: DiskControl = {
  attached: true,
  phase: { kind: 'online', sinceMs: 1, revoked: disabled },
};
export const suspended: DiskControl = { attached: true, phase: { kind: 'suspended', sinceMs: 1 } };

/**
 * `offline(reason)`, `online`, `online revoked`, `suspended`, with `+` when the intent is to be
 * attached.
 */
export function show({ attached, phase }: DiskControl): string {
  const intent = attached ? '+' : '';
  if (phase.kind === 'offline') return `offline(${phase.facts.reason})${intent}`;
  if (phase.kind === 'suspended') return `suspended${intent}`;
  return `online${phase.revoked === null ? '' : ' revoked'}${intent}`;
}

export function showEffects({ effects }: Transition): string[] {
  return effects.map((effect) => {
    switch (effect.kind) {
      case 'record':
        return effect.required ? 'record!' : 'record';
      case 'go-offline':
        return `go-offline(${effect.facts.reason})`;
      case 'start-timer':
        return `start ${effect.timer}`;
      case 'stop-timer':
        return `stop ${effect.timer}`;
      case 'refuse':
        return `refuse ${effect.refusal} ${effect.facts.reason}`;
      case 'open':
      case 'resume':
      case 'suspend':
      case 'disconnect':
        return effect.kind;
    }
  });
}

export const GO = (reason: OfflineReason): string[] => [
  'stop suspend',
  'stop grace',
  `go-offline(${reason})`,
  'record',
  'start linger',
];

export type Row = [
  claim: string,
  from: DiskControl,
  event: LifecycleEvent,
  context: Partial<LifecycleContext>,
  to: string,
  effects: string[],
];

export const immediate = { mode: 'immediate' } as const;
export const restart = { mode: 'restart' } as const;
export const attach: LifecycleEvent = { kind: 'attach' };
export const detach: LifecycleEvent = { kind: 'detach' };
export const again: LifecycleEvent = { kind: 'restart' };
export const access: LifecycleEvent = { kind: 'access' };
export const leaseEnded: LifecycleEvent = { kind: 'lease-ended', keyWipedBootMs: 1 };
export const timer = (name: 'suspend' | 'grace' | 'linger'): LifecycleEvent => ({
  kind: 'timer',
  timer: name,
});

export function check(rows: Row[], mode: { mode: 'immediate' | 'restart' }): void {
  for (const [claim, from, event, context, to, effects] of rows) {
    void test(`${mode.mode}: ${claim}`, (t) => {
      const full: LifecycleContext = {
        ...mode,
        holdOnHeal: false,
        access: GRANTED,
        clients: 0,
        nowMs: NOW,
        ...context,
      };
      const result = transition(from, event, full);
      t.equal(show(result.control), to);
      t.strictSame(showEffects(result), effects);
      t.end();
    });
  }
}

// SPDX-License-Identifier: Apache-2.0
import { assertNever } from '../base/errors.js';
import type {
  DiskControl,
  Effect,
  LifecycleContext,
  LifecycleEvent,
  OfflineFacts,
  Phase,
  TimerName,
  Transition,
} from './control.js';
import type { OfflineReason } from './record.js';

/*
 * The life of one disk as a pure function (docs/LIFECYCLE.md section 3 has the picture and the
 * table):
 *
 *   transition(control, event, context) → { control, effects }
 *
 * DiskRunner carries out the effects one after the other and feeds back what came of them.
 */

/** Reasons that lie with the key: a PROOF lifts them. */
const KEY_REASONS: ReadonlySet<OfflineReason> = new Set([
  'key-disabled',
  'key-deleted',
  'access-denied',
  'identity-denied',
  'key-expired',
  'lease-expired',
]);

/** Reasons that nothing lifts. */
const FINAL_REASONS: ReadonlySet<OfflineReason> = new Set(['erased', 'fenced']);

const RECORD: Effect = { kind: 'record', required: false };
const RECORD_FIRST: Effect = { kind: 'record', required: true };
const RECORD_OPENING: Effect = { kind: 'record', required: true, opening: true };
const STOP_TIMERS: readonly Effect[] = [
  { kind: 'stop-timer', timer: 'suspend' },
  { kind: 'stop-timer', timer: 'grace' },
];

export function isKeyReason(reason: OfflineReason): boolean {
  return KEY_REASONS.has(reason);
}

export function transition(
  control: DiskControl,
  event: LifecycleEvent,
  context: LifecycleContext,
): Transition {
  switch (event.kind) {
    case 'attach':
      return attach(control, context);
    case 'detach':
      return detach(control, context);
    case 'restart':
      return restart(control, context);
    case 'shutdown':
      return shutdown(control, context);
    case 'erased':
      return {
        control: { attached: false, phase: offline(plainFacts('erased', context.nowMs)) },
        effects: [RECORD_FIRST],
      };
    case 'access':
      return accessChanged(control, context);
    case 'lease-ended':
      return leaseEnded(control, context);
    case 'timer':
      return timerFired(control, event.timer, context);
    case 'clients':
      return clientsChanged(control, context);
    case 'opened':
      return {
        control: online({ ...control, attached: true }, context),
        effects: [{ kind: 'stop-timer', timer: 'linger' }, RECORD],
      };
    case 'open-failed':
      return {
        control: { attached: event.attachedBefore, phase: offline(event.facts) },
        effects: [RECORD],
      };
    case 'resumed':
      return {
        control: online(control, context),
        effects: [{ kind: 'stop-timer', timer: 'suspend' }],
      };
    case 'resume-failed':
      // Without the key it stays suspended, and the next PROOF or the suspend timeout decides.
      if (isKeyReason(event.facts.reason)) return same(control);
      return takeOffline(control, event.facts);
    default:
      return assertNever(event, 'lifecycle event');
  }
}

function attach(control: DiskControl, context: LifecycleContext): Transition {
  const { phase } = control;
  const { access } = context;
  if (phase.kind === 'online') return same(control);
  if (phase.kind === 'offline' && FINAL_REASONS.has(phase.facts.reason)) {
    return { control, effects: [{ kind: 'refuse', refusal: 'unusable', facts: phase.facts }] };
  }
  if (access.kind !== 'granted') return refuse(control, access.facts);
  if (phase.kind === 'suspended') return { control, effects: [{ kind: 'resume' }] };
  const effects: Effect[] = control.attached ? [] : [RECORD_OPENING];
  return {
    control: { ...control, attached: true },
    // Within the linger the store is still open. Whoever attaches may have moved, cut or restored
    // it since, so it is opened, and its size checked, anew.
    effects: [
      ...effects,
      { kind: 'disconnect' },
      { kind: 'open', attachedBefore: control.attached },
    ],
  };
}

/**
 * The disk shows what the refusal says, unless what it shows already would keep it offline anyway.
 */
function refuse(control: DiskControl, facts: OfflineFacts): Transition {
  const refusal: Effect = { kind: 'refuse', refusal: 'key', facts };
  const { phase } = control;
  const replaceable =
    phase.kind === 'offline' &&
    (isKeyReason(phase.facts.reason) ||
      phase.facts.reason === 'detached' ||
      phase.facts.reason === 'never-attached');
  if (!replaceable || sameFacts(phase.facts, facts)) return { control, effects: [refusal] };
  return { control: { ...control, phase: offline(facts) }, effects: [RECORD, refusal] };
}

function detach(control: DiskControl, context: LifecycleContext): Transition {
  const { phase } = control;
  const detached = plainFacts('detached', context.nowMs);
  if (phase.kind === 'offline') {
    const { reason } = phase.facts;
    const keeps = isKeyReason(reason) || FINAL_REASONS.has(reason) || reason === 'never-attached';
    if (!control.attached && (keeps || reason === 'detached')) return same(control);
    const facts = keeps ? phase.facts : detached;
    return { control: { attached: false, phase: offline(facts) }, effects: [RECORD_FIRST] };
  }
  const facts = phase.kind === 'online' && phase.revoked !== null ? phase.revoked : detached;
  return {
    control: { attached: false, phase: offline(facts) },
    effects: [
      RECORD_FIRST,
      ...STOP_TIMERS,
      { kind: 'go-offline', facts },
      // With nobody to linger for, the store is free at once: it can be unmounted or moved.
      context.clients === 0 ? { kind: 'disconnect' } : { kind: 'start-timer', timer: 'linger' },
    ],
  };
}

function restart(control: DiskControl, context: LifecycleContext): Transition {
  const { phase } = control;
  const { access } = context;
  if (!control.attached) {
    const facts = phase.kind === 'offline' ? phase.facts : plainFacts('detached', context.nowMs);
    return { control, effects: [{ kind: 'refuse', refusal: 'not-attached', facts }] };
  }
  if (phase.kind === 'offline') {
    const again = attach(control, context);
    const closes = again.effects.some(({ kind }) => kind === 'disconnect');
    const effects: Effect[] = closes ? [] : [{ kind: 'disconnect' }];
    return { control: again.control, effects: [...effects, ...again.effects] };
  }
  const granted = access.kind === 'granted';
  const facts = granted ? plainFacts('detached', context.nowMs, 'restarting') : access.facts;
  const last: Effect[] = granted
    ? [{ kind: 'open', attachedBefore: true }]
    : [RECORD, { kind: 'refuse', refusal: 'key', facts }];
  return {
    control: { ...control, phase: offline(facts) },
    effects: [...STOP_TIMERS, { kind: 'go-offline', facts }, { kind: 'disconnect' }, ...last],
  };
}

/** The record keeps the intent, so that the next start attaches again. */
function shutdown(control: DiskControl, context: LifecycleContext): Transition {
  if (control.phase.kind === 'offline') return { control, effects: [{ kind: 'disconnect' }] };
  const facts = plainFacts('detached', context.nowMs, 'the daemon is stopping');
  return {
    control: { ...control, phase: offline(facts) },
    effects: [...STOP_TIMERS, { kind: 'go-offline', facts }, { kind: 'disconnect' }],
  };
}

function accessChanged(control: DiskControl, context: LifecycleContext): Transition {
  switch (context.access.kind) {
    case 'granted':
      return granted(control, context);
    case 'denied':
      return denied(control, context.access.facts, context);
    case 'lapsed':
    // A set that has just been put on another key: nothing proves access until a PROOF.
    case 'unknown':
      return lapsed(control, context);
    default:
      return assertNever(context.access, 'key access');
  }
}

function granted(control: DiskControl, context: LifecycleContext): Transition {
  const { phase } = control;
  switch (phase.kind) {
    case 'suspended':
      return { control, effects: [{ kind: 'resume' }] };
    case 'online':
      if (phase.revoked === null) return same(control);
      return {
        control: { ...control, phase: { kind: 'online', sinceMs: context.nowMs, revoked: null } },
        effects: [{ kind: 'stop-timer', timer: 'grace' }],
      };
    case 'offline': {
      if (!isKeyReason(phase.facts.reason)) return same(control);
      if (!control.attached) {
        const facts = plainFacts('detached', context.nowMs);
        return { control: { ...control, phase: offline(facts) }, effects: [RECORD] };
      }
      if (context.holdOnHeal && !phase.waiting) return same(control);
      return { control, effects: [{ kind: 'open', attachedBefore: true }] };
    }
    default:
      return assertNever(phase, 'phase');
  }
}

function denied(control: DiskControl, facts: OfflineFacts, context: LifecycleContext): Transition {
  const { phase } = control;
  switch (phase.kind) {
    case 'offline': {
      const shows = control.attached && isKeyReason(phase.facts.reason);
      if (!shows) return same(control);
      if (sameFacts(phase.facts, facts)) {
        return same({ ...control, phase: offline(phase.facts) });
      }
      return { control: { ...control, phase: offline(facts) }, effects: [RECORD] };
    }
    case 'suspended':
      return takeOffline(control, facts);
    case 'online':
      if (context.mode === 'immediate') return takeOffline(control, facts);
      if (phase.revoked !== null && sameFacts(phase.revoked, facts)) return same(control);
      return {
        control: {
          ...control,
          phase: { kind: 'online', sinceMs: context.nowMs, revoked: facts },
        },
        effects: context.clients === 0 ? [{ kind: 'start-timer', timer: 'grace' }] : [],
      };
    default:
      return assertNever(phase, 'phase');
  }
}

function lapsed(control: DiskControl, context: LifecycleContext): Transition {
  if (context.mode !== 'immediate' || control.phase.kind !== 'online') return same(control);
  return {
    control: { ...control, phase: { kind: 'suspended', sinceMs: context.nowMs } },
    effects: [{ kind: 'suspend' }, { kind: 'start-timer', timer: 'suspend' }],
  };
}

/** Native code came first. Should the lease hold again by now, the disk goes on at once. */
function leaseEnded(control: DiskControl, context: LifecycleContext): Transition {
  if (control.phase.kind !== 'online') return same(control);
  const effects: Effect[] = [{ kind: 'start-timer', timer: 'suspend' }];
  if (context.access.kind === 'granted') effects.push({ kind: 'resume' });
  return {
    control: { ...control, phase: { kind: 'suspended', sinceMs: context.nowMs } },
    effects,
  };
}

function timerFired(control: DiskControl, timer: TimerName, context: LifecycleContext): Transition {
  const { phase } = control;
  switch (timer) {
    case 'suspend': {
      if (phase.kind !== 'suspended') return same(control);
      const { access } = context;
      const message = access.kind === 'granted' ? null : access.facts.message;
      return takeOffline(control, plainFacts('lease-expired', context.nowMs, message));
    }
    case 'grace':
      if (phase.kind !== 'online' || phase.revoked === null || context.clients > 0) {
        return same(control);
      }
      return takeOffline(control, phase.revoked);
    case 'linger':
      return { control, effects: phase.kind === 'offline' ? [{ kind: 'disconnect' }] : [] };
    default:
      return assertNever(timer, 'timer');
  }
}

function clientsChanged(control: DiskControl, context: LifecycleContext): Transition {
  const { phase } = control;
  if (phase.kind !== 'online' || phase.revoked === null) return same(control);
  const kind = context.clients === 0 ? 'start-timer' : 'stop-timer';
  return { control, effects: [{ kind, timer: 'grace' }] };
}

/**
 * Caused by a verdict, not by a command: the record comes last, as a full disk must not delay it.
 */
function takeOffline(control: DiskControl, facts: OfflineFacts): Transition {
  return {
    control: { ...control, phase: offline(facts) },
    effects: [
      ...STOP_TIMERS,
      { kind: 'go-offline', facts },
      RECORD,
      { kind: 'start-timer', timer: 'linger' },
    ],
  };
}

function online(control: DiskControl, context: LifecycleContext): DiskControl {
  return { ...control, phase: { kind: 'online', sinceMs: context.nowMs, revoked: null } };
}

function offline(facts: OfflineFacts): Phase {
  return { kind: 'offline', facts, waiting: false };
}

function same(control: DiskControl): Transition {
  return { control, effects: [] };
}

/** Facts that no vault answer stands behind. */
export function plainFacts(
  reason: OfflineReason,
  nowMs: number,
  message: string | null = null,
): OfflineFacts {
  return { reason, sinceMs: nowMs, keyVersion: null, vaultRequestId: null, message };
}

/** The same cause: only its time may differ, and then the first one counts. */
function sameFacts(a: OfflineFacts, b: OfflineFacts): boolean {
  return a.reason === b.reason && a.keyVersion === b.keyVersion;
}

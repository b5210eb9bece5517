// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import type { CreateSetOptions, SetPolicy } from '../../src/sets/create-set.js';
import { type Behaviour, DELETED, DISABLED, NO_ROLE, PROOF, SILENT } from './fake-vault.js';

/*
 * What can happen to two sets and their disks, as data: fast-check shrinks it, and a failing life
 * can be kept as a regression.
 */

export const SETS = ['s', 't'] as const;
export const DISKS = ['a', 'b', 'c'] as const;
export const VERSIONS = ['v1', 'v2', 'v3'] as const;

/** Customer keys without version: two of each set, and two that both may be assigned. */
export const KEYS = [
  'https://s1.example/keys/k',
  'https://s2.example/keys/k',
  'https://t1.example/keys/k',
  'https://t2.example/keys/k',
  'https://shared.example/keys/x',
  'https://shared.example/keys/y',
] as const;

type SetName = (typeof SETS)[number];
type DiskName = (typeof DISKS)[number];

export const SET_KINDS = [
  'one',
  'two-any',
  'two-all',
  'availability',
  'two-availability',
  'platform',
] as const;

export interface SetPlan {
  readonly kind: (typeof SET_KINDS)[number];
  readonly mode: 'immediate' | 'restart';
  /** On versioned URLs nothing is rotated. */
  readonly versioned: boolean;
}

export interface Plan {
  readonly sets: readonly [SetPlan, SetPlan];
  readonly double: boolean;
  readonly steps: readonly Step[];
}

/** What an operator asks for; `wait` for the end of it, or let it overlap with what follows. */
export type Command =
  | { readonly kind: 'rotate' | 'check' | 'purge'; readonly set: SetName }
  | { readonly kind: 'assign'; readonly set: SetName; readonly key: number; readonly slot: 1 | 2 }
  | { readonly kind: 'assign-platform'; readonly set: SetName }
  | { readonly kind: 'update'; readonly set: SetName; readonly changes: Partial<SetPolicy> }
  | { readonly kind: 'create' | 'move'; readonly disk: DiskName; readonly set: SetName }
  | { readonly kind: 'attach' | 'detach' | 'restart' | 'erase'; readonly disk: DiskName };

export type Step =
  | {
      readonly kind: 'vault';
      readonly key: number;
      readonly version: (typeof VERSIONS)[number];
      readonly behaviours: readonly Behaviour[];
      readonly latencyMs: number;
    }
  | { readonly kind: 'new-version'; readonly key: number; readonly version: string }
  | { readonly kind: 'pass'; readonly durationMs: number }
  | { readonly kind: 'command'; readonly command: Command; readonly wait: boolean }
  | { readonly kind: 'store'; readonly disk: DiskName; readonly away: boolean }
  | { readonly kind: 'platform'; readonly present: boolean }
  | { readonly kind: 'restart' }
  /** Death at the n-th fsync from here, or at the latest when the command has had its time. */
  | { readonly kind: 'crash'; readonly sync: number; readonly command: Command };

export function setOptions(index: 0 | 1, { sets, double }: Plan): CreateSetOptions {
  const { kind, mode, versioned } = sets[index];
  const url = (key: number): string => `${KEYS[2 * index + key]}${versioned ? '/v1' : ''}`;
  const two = kind.startsWith('two');
  return {
    name: SETS[index],
    identity: 'main',
    mode,
    double,
    leaseMs: 60_000,
    suspendTimeoutMs: 200_000,
    rotationIntervalMs: 60_000,
    ...(kind === 'platform' ? {} : { keyUrl: url(0) }),
    ...(two ? { key2Url: url(1) } : {}),
    revokeWhen: kind === 'two-all' ? 'all' : 'any',
    availabilityKey: kind.endsWith('availability'),
  };
}

const disk = fc.constantFrom(...DISKS);
const set = fc.constantFrom(...SETS);
const key = fc.nat(KEYS.length - 1);
const behaviour = fc.constantFrom<Behaviour>(
  PROOF,
  PROOF,
  PROOF,
  DISABLED,
  DISABLED,
  DELETED,
  NO_ROLE,
  SILENT,
  SILENT,
  { kind: 'identity-denied' },
  { kind: 'network-denied' },
  { kind: 'integrity' },
);

const changes: fc.Arbitrary<Partial<SetPolicy>> = fc.oneof(
  fc.record({ revokeWhen: fc.constantFrom('any' as const, 'all' as const) }),
  fc.record({ mode: fc.constantFrom('immediate' as const, 'restart' as const) }),
  fc.record({ identityDenied: fc.constantFrom('offline' as const, 'lease' as const) }),
  fc.record({ networkDenied: fc.constantFrom('offline' as const, 'lease' as const) }),
  fc.record({ onExpiry: fc.constantFrom('offline' as const, 'warn' as const) }),
  fc.record({ probeIntervalMs: fc.constantFrom(5000, 10_000) }),
);

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('rotate' as const), set }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('check' as const), set }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('purge' as const), set }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('assign' as const),
      set,
      key,
      slot: fc.constantFrom(1 as const, 1 as const, 2 as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('assign-platform' as const), set }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('update' as const), set, changes }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('create' as const, 'move' as const, 'move' as const),
      disk,
      set,
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('attach' as const, 'attach' as const, 'detach' as const),
      disk,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const), disk }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('erase' as const), disk }) },
);

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('vault' as const),
      key,
      version: fc.constantFrom('v1' as const, 'v1' as const, 'v2' as const, 'v3' as const),
      behaviours: fc.array(behaviour, { minLength: 1, maxLength: 3 }),
      latencyMs: fc.constantFrom(0, 0, 30, 700),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('new-version' as const),
      key,
      version: fc.constantFrom(...VERSIONS),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      durationMs: fc.constantFrom(1, 10, 400, 3000, 12_000, 12_000, 45_000, 130_000, 1_000_000),
    }),
  },
  {
    weight: 14,
    arbitrary: fc.record({ kind: fc.constant('command' as const), command, wait: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('store' as const), disk, away: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('platform' as const), present: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      sync: fc.integer({ min: 1, max: 25 }),
      command,
    }),
  },
);

const setPlan: fc.Arbitrary<SetPlan> = fc.record({
  kind: fc.constantFrom(...SET_KINDS),
  mode: fc.constantFrom('immediate' as const, 'immediate' as const, 'restart' as const),
  versioned: fc.constantFrom(false, false, true),
});

export const plan: fc.Arbitrary<Plan> = fc.record({
  sets: fc.tuple(setPlan, setPlan),
  double: fc.constantFrom(false, false, false, true),
  steps: fc.array(step, { minLength: 8, maxLength: 30, size: 'max' }),
});

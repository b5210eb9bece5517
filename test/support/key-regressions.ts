// SPDX-License-Identifier: Apache-2.0
import { DISABLED, PROOF, SILENT } from './fake-vault.js';
import type { Plan } from './key-steps.js';

/** Lives that once broke a promise, as fast-check has shrunk them. */
export const REGRESSIONS: ReadonlyArray<{ readonly claim: string; readonly plan: Plan }> = [
  {
    claim: 'a failed move and a rotation of the set that it went to',
    plan: {
      sets: [
        { kind: 'two-availability', mode: 'immediate', versioned: false },
        { kind: 'one', mode: 'immediate', versioned: false },
      ],
      double: false,
      steps: [
        { kind: 'command', command: { kind: 'assign-platform', set: 't' }, wait: false },
        { kind: 'command', command: { kind: 'assign', set: 't', key: 0, slot: 1 }, wait: false },
        { kind: 'new-version', key: 0, version: 'v3' },
        {
          kind: 'vault',
          key: 0,
          version: 'v1',
          behaviours: [SILENT, { kind: 'network-denied' }, PROOF],
          latencyMs: 700,
        },
        { kind: 'command', command: { kind: 'move', disk: 'a', set: 't' }, wait: true },
        { kind: 'command', command: { kind: 'move', disk: 'c', set: 's' }, wait: true },
        { kind: 'command', command: { kind: 'rotate', set: 's' }, wait: true },
        { kind: 'command', command: { kind: 'move', disk: 'a', set: 's' }, wait: false },
        { kind: 'pass', durationMs: 10 },
        { kind: 'vault', key: 0, version: 'v2', behaviours: [DISABLED], latencyMs: 0 },
      ],
    },
  },
  {
    claim: 'an assignment that dies, and once more before the first proof',
    plan: {
      sets: [
        { kind: 'one', mode: 'immediate', versioned: false },
        { kind: 'one', mode: 'immediate', versioned: false },
      ],
      double: false,
      steps: [
        { kind: 'vault', key: 0, version: 'v1', behaviours: [PROOF], latencyMs: 30 },
        { kind: 'crash', sync: 2, command: { kind: 'assign', set: 's', key: 0, slot: 1 } },
        { kind: 'command', command: { kind: 'assign', set: 's', key: 0, slot: 1 }, wait: false },
      ],
    },
  },
];

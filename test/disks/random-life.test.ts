// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import { OFFLINE_REASONS } from '../../src/disks/record.js';
import {
  type Behaviour,
  DELETED,
  DISABLED,
  NO_ROLE,
  PROOF,
  SILENT,
} from '../support/fake-vault.js';
import { KEY_URL, World } from '../support/world.js';

const DISKS = ['a', 'b'];

type Step =
  | { kind: 'vault'; behaviour: Behaviour; latencyMs: number }
  | { kind: 'pass'; durationMs: number }
  | { kind: 'command'; command: 'attach' | 'detach' | 'restart'; disk: string; wait: boolean }
  | { kind: 'check' }
  | { kind: 'connect' | 'leave'; disk: string }
  | { kind: 'reboot'; crash: boolean };

const disk = fc.constantFrom(...DISKS);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('vault' as const),
      behaviour: fc.constantFrom(PROOF, PROOF, DISABLED, DELETED, NO_ROLE, SILENT, {
        kind: 'identity-denied' as const,
      }),
      latencyMs: fc.constantFrom(0, 30, 700),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('pass' as const),
      durationMs: fc.constantFrom(10, 400, 3000, 12_000, 45_000, 130_000),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('command' as const),
      command: fc.constantFrom('attach' as const, 'detach' as const, 'restart' as const),
      disk,
      wait: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('check' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('connect' as const, 'leave' as const), disk }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('reboot' as const), crash: fc.boolean() }),
  },
);

/** Throws when the world breaks a promise. */
function assertInvariants(world: World): void {
  const set = world.sets.get('s');
  const holds = world.clock.bootMs() < set.lease.deadlineBootMs();
  for (const view of world.disks.views()) {
    const { name, state, reason, revoked } = view;
    const where = `disk ${name} ${state}(${String(reason)})`;
    if ((state === 'offline') !== (reason !== null)) throw new Error(`${where}: reason`);
    if (reason !== null && !OFFLINE_REASONS.includes(reason)) throw new Error(`${where}: unknown`);
    const hasDek = world.plane.open.get(name)?.dek !== undefined;
    if (set.record.mode === 'immediate') {
      if (hasDek && !holds) throw new Error(`${where}: a DEK without a lease`);
      if (revoked) throw new Error(`${where}: revoked in immediate mode`);
    } else if (state === 'suspended') {
      throw new Error(`${where}: suspended in restart mode`);
    }
    if (revoked && !hasDek) throw new Error(`${where}: revoked, but serves nothing`);
  }
  if (!holds && world.custody.liveKeys.length > 0) throw new Error('a set key without a lease');
  if (world.vault.probesInFlightMax > 1) throw new Error('two probes of one key at once');
  if (world.vault.unwrapsInFlightMax > 1) throw new Error('two unwraps of one key at once');
}

/** At rest: what states say of the key is what the data plane has. */
function assertAtRest(world: World): void {
  for (const { name, state } of world.disks.views()) {
    const mode = world.plane.open.get(name)?.mode ?? 'closed';
    const expected = {
      online: ['serving'],
      suspended: ['suspended'],
      offline: ['locked', 'closed'],
    };
    if (!expected[state].includes(mode)) throw new Error(`disk ${name} is ${state}, plane ${mode}`);
    const { access, record } = world.sets.get('s');
    const forbidden =
      access.kind === 'denied'
        ? ['online', 'suspended']
        : access.kind === 'lapsed'
          ? ['online']
          : [];
    if (record.mode === 'immediate' && forbidden.includes(state)) {
      throw new Error(`disk ${name} is ${state} while access is ${access.kind}`);
    }
  }
}

/** After a proof every disk is what its operator wants. */
function assertHealed(world: World): void {
  assertAtRest(world);
  for (const { name, attached, state } of world.disks.views()) {
    if (attached === (state === 'online')) continue;
    throw new Error(`disk ${name} is ${state}, attached ${String(attached)}`);
  }
}

async function take(world: World, next: Step): Promise<World> {
  switch (next.kind) {
    case 'vault':
      world.vault.behave(KEY_URL, next.behaviour);
      world.vault.latencyMs = next.latencyMs;
      return world;
    case 'pass':
      await world.pass(next.durationMs);
      return world;
    case 'command': {
      const work = world.disks[next.command](next.disk).then(
        () => undefined,
        () => undefined,
      );
      if (next.wait) await world.during(work, 100);
      return world;
    }
    case 'check':
      await world.during(world.sets.check('s'), 100);
      await world.rest();
      // Let commands that were not waited for come to an end: the vault may take its time.
      await world.pass(6000);
      await world.pass(6000);
      assertAtRest(world);
      return world;
    case 'connect':
      if (world.plane.open.get(next.disk)?.mode === 'serving') world.planeDisk(next.disk).connect();
      return world;
    case 'leave': {
      const open = world.plane.open.get(next.disk);
      const [client] = open?.connected.keys() ?? [];
      if (client !== undefined) open?.leave(client);
      return world;
    }
    case 'reboot': {
      // A crash while a command writes its record is a matter of the file tests.
      await world.rest();
      const reborn = await world.reborn({ crash: next.crash });
      watch(reborn);
      return reborn;
    }
  }
}

/** No DEK is ever unsealed but with access granted. */
function watch(world: World): void {
  world.disks.events.on('unlocked', () => {
    const { kind } = world.sets.get('s').access;
    if (kind !== 'granted') violations.push(`unlocked while ${kind}`);
  });
  world.disks.events.on('offline-failed', (event) => {
    violations.push(`offline-failed: ${event.message}`);
  });
}
const violations: string[] = [];

async function live(mode: 'immediate' | 'restart', steps: Step[]): Promise<void> {
  violations.length = 0;
  let world = await World.create();
  try {
    watch(world);
    await world.createSet({ mode, leaseMs: 60_000, suspendTimeoutMs: 200_000 });
    for (const name of DISKS) await world.createDisk({ name });
    await world.during(world.disks.attach('a'));
    for (const next of steps) {
      world = await take(world, next);
      assertInvariants(world);
    }
    world.vault.behave(KEY_URL, PROOF);
    world.vault.latencyMs = 0;
    // Twice an interval: one for the proof, one for what failed the first time.
    for (let turn = 0; turn < 5; turn += 1) await world.pass(5000);
    assertInvariants(world);
    assertHealed(world);
    if (violations.length > 0) throw new Error(violations.join('; '));
  } finally {
    await world.destroy();
  }
}

for (const mode of ['immediate', 'restart'] as const) {
  void test(`${mode} mode keeps its promises in random lives`, async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), (steps) =>
        live(mode, steps),
      ),
      { numRuns: 25, interruptAfterTimeLimit: 40_000, endOnFailure: true },
    );
    t.pass('no promise was broken');
  });
}

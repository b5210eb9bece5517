// SPDX-License-Identifier: Apache-2.0
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type AuditLog, openAudit } from '../../src/audit/audit-log.js';
import { KeyholdError } from '../../src/base/errors.js';
import { Died, type DyingFiles } from './dying-files.js';
import { FakePlatformKey } from './fake-seal.js';
import { PROOF } from './fake-vault.js';
import { KeyJudge } from './key-judge.js';
import {
  type Command,
  DISKS,
  KEYS,
  type Plan,
  SETS,
  setOptions,
  type Step,
  VERSIONS,
} from './key-steps.js';
import { World } from './world.js';

/** Time for a command that nobody waits for any more: longer than any answer or confirmation. */
const COMMAND_MS_MAX = 30_000;

/** Rotation is tried again every minute at the latest, a purge too. */
const HEALING_MS = 200_000;

/** Lives one plan from beginning to end; rejects with the first promise that was broken. */
export async function liveKeys(plan: Plan, files: DyingFiles): Promise<void> {
  const life = await KeyLife.begin(plan, files);
  try {
    for (const step of plan.steps) await life.take(step);
    await life.heal();
  } finally {
    await life.end();
  }
}

class KeyLife {
  readonly #files: DyingFiles;
  readonly #platformKey = new FakePlatformKey();
  readonly #away = new Set<string>();
  readonly #judge: KeyJudge;
  /** What nobody waited for, in words. */
  readonly #pending = new Map<Promise<void>, Command>();
  #world: World;
  #audit: AuditLog;

  private constructor(world: World, audit: AuditLog, files: DyingFiles) {
    this.#files = files;
    this.#world = world;
    this.#audit = audit;
    this.#judge = new KeyJudge(this.#platformKey);
  }

  static async begin(plan: Plan, files: DyingFiles): Promise<KeyLife> {
    files.revive();
    const world = await World.create();
    const audit = await openAudit(join(world.stateDir, 'audit.jsonl'), world);
    const life = new KeyLife(world, audit, files);
    world.platform = life.#platformKey;
    life.#watch();
    for (const index of [0, 1] as const) {
      await world.during(world.sets.create(setOptions(index, plan)));
    }
    for (const [index, set] of SETS.entries()) {
      const name = DISKS[index] ?? '';
      await world.createDisk({ name, set });
      await world.during(world.disks.attach(name));
    }
    await life.#settle();
    return life;
  }

  async take(step: Step): Promise<void> {
    await this.#do(step);
    await this.#settle();
  }

  /** With everything as it should be, everything heals. */
  async heal(): Promise<void> {
    const world = this.#world;
    for (const url of KEYS) {
      for (const version of VERSIONS) world.vault.behave(`${url}/${version}`, PROOF);
    }
    world.vault.latencyMs = 0;
    world.platform = this.#platformKey;
    for (const name of DISKS) await this.#moveStore(name, false);
    for (let passedMs = 0; passedMs < HEALING_MS; passedMs += 10_000) await world.pass(10_000);
    if (this.#pending.size > 0) {
      throw new Error(`still under way: ${JSON.stringify([...this.#pending.values()])}`);
    }
    // Reasons that lie with the store wait for an operator.
    for (const { name, attached, state, reason, set } of world.disks.views()) {
      const purged = world.sets.get(set).record.purge !== null;
      if (!attached || state === 'online' || purged || reason === 'erased') continue;
      await world.during(world.disks.attach(name));
    }
    await this.#settle();
    await this.#judge.assertHealed(world);
    const report = await this.#audit.verify();
    if (!report.ok) throw new Error(`audit: ${JSON.stringify(report)}`);
  }

  async end(): Promise<void> {
    this.#files.revive();
    await this.#world.destroy();
    await this.#audit.close().catch(() => undefined);
  }

  async #do(step: Step): Promise<void> {
    const world = this.#world;
    switch (step.kind) {
      case 'vault':
        world.vault.behave(`${KEYS[step.key]}/${step.version}`, ...step.behaviours);
        world.vault.latencyMs = step.latencyMs;
        return;
      case 'new-version':
        world.vault.rotate(KEYS[step.key] ?? '', step.version);
        return;
      case 'pass':
        return world.pass(step.durationMs);
      case 'command': {
        const work = this.#start(step.command);
        if (step.wait) await world.during(work, 100);
        return;
      }
      case 'store':
        return this.#moveStore(step.disk, step.away);
      case 'platform':
        world.platform = step.present ? this.#platformKey : undefined;
        return;
      case 'restart':
        return this.#restart();
      case 'crash':
        return this.#crash(step);
    }
  }

  /** Resolves whatever comes of it, unless what comes is no error that an operator should see. */
  #start(command: Command): Promise<void> {
    this.#judge.begin(command, this.#world);
    const world = this.#world;
    const work = this.#run(command).then(
      () => undefined,
      (error: unknown) => {
        if (this.#files.dead || world !== this.#world) return;
        if (error instanceof KeyholdError || error instanceof Died) return;
        this.#judge.accuse(`${JSON.stringify(command)}: ${(error as Error).stack ?? ''}`);
      },
    );
    const tracked: Promise<void> = work.finally(() => {
      if (this.#pending.delete(tracked)) this.#judge.finish(command);
    });
    this.#pending.set(tracked, command);
    return tracked;
  }

  async #run(command: Command): Promise<unknown> {
    const { sets, disks } = this.#world;
    switch (command.kind) {
      case 'rotate':
        return sets.rotate(command.set);
      case 'check':
        return sets.check(command.set);
      case 'purge':
        return sets.purge(command.set, command.set);
      case 'assign':
        return sets.assign(command.set, { url: KEYS[command.key] ?? '', slot: command.slot });
      case 'assign-platform':
        return sets.assign(command.set, 'platform');
      case 'update':
        return sets.update(command.set, command.changes);
      case 'create':
        return disks.create({ name: command.disk, set: command.set, sizeBytes: 4096 });
      case 'move':
        return disks.move(command.disk, command.set);
      case 'erase':
        return disks.erase(command.disk, command.disk);
      case 'attach':
      case 'detach':
      case 'restart':
        return disks[command.kind](command.disk);
    }
  }

  async #settle(): Promise<void> {
    await this.#world.rest();
    await this.#judge.assertInvariants(this.#world);
  }

  async #restart(): Promise<void> {
    // A clean stop waits for what is under way.
    await this.#world.pass(COMMAND_MS_MAX);
    await this.#succeed(await this.#world.reborn({ load: false }));
  }

  async #crash({ sync, command }: Extract<Step, { kind: 'crash' }>): Promise<void> {
    this.#files.dieAt(sync);
    void this.#start(command);
    for (let passedMs = 0; !this.#files.dead && passedMs < COMMAND_MS_MAX; passedMs += 200) {
      await this.#world.pass(200);
    }
    // Nothing of what is under way may still come to its end.
    this.#files.dieAt(0);
    this.#world.kill();
    await this.#world.rest();
    await this.#succeed(await this.#world.reborn({ crash: true, load: false }));
  }

  async #succeed(world: World): Promise<void> {
    this.#pending.clear();
    this.#judge.forget();
    await this.#audit.close().catch(() => undefined);
    this.#files.revive();
    this.#world = world;
    this.#audit = await openAudit(this.#audit.path, world);
    this.#watch();
    await world.load();
    await world.rest();
    const report = await this.#audit.verify();
    if (!report.ok) throw new Error(`audit after a start: ${JSON.stringify(report)}`);
  }

  async #moveStore(name: string, away: boolean): Promise<void> {
    if (away === this.#away.has(name)) return;
    const path = join(this.#world.stateDir, 'stores', `${name}.img`);
    const [from, to] = away ? [path, `${path}.away`] : [`${path}.away`, path];
    try {
      await rename(from, to);
    } catch {
      return;
    }
    if (away) this.#away.add(name);
    else this.#away.delete(name);
  }

  /** Every event becomes an audit record, as in the daemon. */
  #watch(): void {
    const world = this.#world;
    this.#judge.watch(world, () => this.#files.dead);
    let told = world.told.length;
    const append = (): void => {
      for (const { kind, event } of world.told.slice(told)) {
        if (kind === 'verdict' || kind === 'proof') continue;
        this.#audit.append(kind, { event }).catch(() => undefined);
      }
      told = world.told.length;
    };
    for (const kind of ['granted', 'denied', 'lapsed', 'rewrapped', 'purged'] as const) {
      world.sets.events.on(kind, append);
    }
    for (const kind of ['created', 'state', 'moved', 'erased'] as const) {
      world.disks.events.on(kind, append);
    }
  }
}

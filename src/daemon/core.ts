// SPDX-License-Identifier: Apache-2.0
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import { createSystemRandom } from '../base/random.js';
import type { FilledConfig } from '../config/config.js';
import type { Addon } from '../dataplane/addon.js';
import { NativeCustody } from '../dataplane/custody.js';
import { DataPlane } from '../dataplane/plane.js';
import { DiskService } from '../disks/disk-service.js';
import { type PlatformKeySource } from '../sets/platform.js';
import { SetService } from '../sets/set-service.js';
import { type ClosableVaultAccess, createVaultAccess } from '../vault/access.js';
import { VaultBudget } from '../vault/budget.js';
import { budgeted } from '../vault/budgeted.js';
import type { HelperCommand } from '../vault/unwrap-helper.js';
import { Alarms } from './alarms.js';
import { raiseControlThread } from './priority.js';
import { cipherThreadsOf, shardsOf } from './threads.js';
/** The parts that everything else is made of. */
export interface Core {
  readonly addon: Addon;
  readonly clock: Clock;
  readonly vault: ClosableVaultAccess;
  readonly sets: SetService;
  readonly disks: DiskService;
  readonly plane: DataPlane;
  readonly alarms: Alarms;
}

/** Every vault, within what this daemon may ask of each. */
export function openVaults(options: {
  config: FilledConfig;
  credentialsDirectory: string | undefined;
  logger: Logger;
  addon: Addon;
  clock: Clock;
  budget: VaultBudget;
}): ClosableVaultAccess {
  const { config, credentialsDirectory, logger, addon, clock, budget } = options;
  const vault = createVaultAccess({
    identities: config.identities,
    transport: config.vault,
    clock,
    logger,
    secretPipe: new NativeCustody(addon),
    helperCommand: helperCommand(),
    ...(credentialsDirectory === undefined ? {} : { credentialsDirectory }),
  });
  return budgeted(vault, { budget, clock });
}

/** Sets, disks and the data plane know each other through ports; the knots are tied here. */
export function createCore(options: {
  config: FilledConfig;
  logger: Logger;
  addon: Addon;
  clock: Clock;
  vault: ClosableVaultAccess;
  platform: PlatformKeySource;
}): Core {
  const { config, logger, addon, clock, vault, platform } = options;
  const { graceMs, lingerMs } = config.disks;
  const random = createSystemRandom();
  const custody = new NativeCustody(addon);
  const alarms = new Alarms(clock);
  const sets: SetService = new SetService({
    stateDir: config.stateDir,
    vault,
    custody,
    clock,
    random,
    logger,
    timeoutMs: config.vault.timeoutMs,
    platform,
    disks: () => disks.ofSets,
  });
  const plane: DataPlane = new DataPlane({
    addon,
    shards: shardsOf(config.dataPlane.shards, availableParallelism()),
    xts: config.dataPlane.xts,
    engine: config.dataPlane.engine,
    cipherThreads: cipherThreadsOf(config.dataPlane.cipherThreads, availableParallelism()),
    busyPollUs: config.dataPlane.busyPollUs,
    exportsFor: (peer) => disks.exportsFor(peer),
    clock,
    logger,
    onShardDeath: (index, message, final) => {
      if (final) alarms.raise(`shard ${index}`, `not started again: ${message}`);
    },
  });
  raiseControlThread(logger);
  const disks: DiskService = new DiskService({
    stateDir: config.stateDir,
    sets,
    plane,
    custody,
    platform,
    clock,
    random,
    logger,
    ...(graceMs === undefined ? {} : { graceMs }),
    ...(lingerMs === undefined ? {} : { lingerMs }),
  });
  disks.events.on('offline-receipt', ({ disk, verdictStartedBootMs: from, receipt }) => {
    if (from !== undefined) sets.noteRevocation(disk.set.id, receipt.keyWipedBootMs - from);
  });
  return { addon, clock, vault, sets, disks, plane, alarms };
}

/** The same program as a one-shot child. */
function helperCommand(): HelperCommand {
  const main = fileURLToPath(new URL('../cli/main.js', import.meta.url));
  return { execPath: process.execPath, args: [main, 'unwrap-helper'], env: process.env };
}

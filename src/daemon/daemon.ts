// SPDX-License-Identifier: Apache-2.0
import { dirname, join } from 'node:path';
import type { Caller } from '../admin/api.js';
import { type AdminServer, startAdminServer } from '../admin/server.js';
import { type AuditLog, openAudit } from '../audit/audit-log.js';
import { createSystemClock } from '../base/clock.js';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { makeDirectory } from '../base/make-directory.js';
import { createSystemRandom } from '../base/random.js';
import { readVersion } from '../base/version.js';
import type { FilledConfig } from '../config/config.js';
import type { Addon, ListeningAddress } from '../dataplane/addon.js';
import { callNative } from '../dataplane/errors.js';
import { loadAddon } from '../dataplane/load.js';
import { DataPlane } from '../dataplane/plane.js';
import { platformKeySource } from '../sets/platform.js';
import { Metrics } from '../metrics/metrics.js';
import { type MetricsServer, startMetricsServer } from '../metrics/server.js';
import { VaultBudget } from '../vault/budget.js';
import {
  claimSockets,
  type InheritedFd,
  type InheritedSocket,
  type InheritedSockets,
  socketText,
} from './activation.js';
import { Alarms } from './alarms.js';
import { Anchors } from './anchor.js';
import { AuditExports } from './audit-exports.js';
import { Doctor } from './doctor.js';
import { codes } from './errors.js';
import { openPlatformKey } from './platform-key.js';
import type { Reported } from './reports.js';
import { DaemonServices } from './services.js';
import { createMetricsSources } from './sources.js';
import { openStateDirectory } from './state-directory.js';
import { Reloader } from './reload.js';
import { loadTls } from './tls.js';
import { Trail } from './trail.js';
import { type Core, createCore, openVaults } from './core.js';

/** Owner and group may connect; a disk without an allow list is theirs to use. */
const NBD_SOCKET_MODE = 0o660;

export interface DaemonOptions {
  readonly config: FilledConfig;
  /** Reads it again, from the same file. */
  readonly readConfig: () => Promise<FilledConfig>;
  readonly logger: Logger;
  /** What the service manager passed; used instead of what the config would have bound. */
  readonly inherited: readonly InheritedFd[];
  /** systemd's $CREDENTIALS_DIRECTORY. */
  readonly credentialsDirectory: string | undefined;
}

/** What a started daemon is steered by. */
interface Started {
  readonly plane: DataPlane;
  readonly reported: Reported;
  readonly reload: () => Promise<void>;
}

/** Who a signal comes from is not known. */
const OURSELVES: Caller = {
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  pid: process.pid,
  role: 'admin',
};

/**
 * The composition root: the only place that constructs. What is started is pushed on a stack, and
 * stopped from its top: first nobody can give commands any more, then disks go offline with their
 * stores flushed, then keys and shards go, and the audit log closes last.
 */
export class Daemon {
  readonly #stops: ReadonlyArray<() => Promise<void> | void>;
  readonly #plane: DataPlane;
  readonly #reload: () => Promise<void>;
  /** What a service manager is told of. */
  readonly reported: Reported;

  private constructor(
    { plane, reported, reload }: Started,
    stops: ReadonlyArray<() => Promise<void> | void>,
  ) {
    this.#plane = plane;
    this.#reload = reload;
    this.reported = reported;
    this.#stops = stops;
  }

  /** On error everything that had been started is stopped again. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const stops: Array<() => Promise<void> | void> = [];
    try {
      return new Daemon(await start(options, stops), stops);
    } catch (error) {
      await stopAll(stops);
      throw error;
    }
  }

  async stop(): Promise<void> {
    await stopAll(this.#stops);
  }

  /** What SIGHUP asks for. What fails is an alarm and a record, no reason to end. */
  async reload(): Promise<void> {
    await this.#reload();
  }

  /** For exits that cannot wait: tells the shards to end. */
  stopNow(): void {
    this.#plane.stopNow();
  }
}

async function stopAll(stops: ReadonlyArray<() => Promise<void> | void>): Promise<void> {
  for (const stop of [...stops].reverse()) await stop();
}

async function start(
  { config, readConfig, logger, inherited, credentialsDirectory }: DaemonOptions,
  stops: Array<() => Promise<void> | void>,
): Promise<Started> {
  const lock = await openStateDirectory(config.stateDir);
  stops.push(() => lock.release());
  const addon = loadAddon();
  const sockets = claimInherited(addon, config, inherited);
  // Whatever the limits outside say: the kernel never writes this process's memory to a disk.
  addon.forbidCoreDumps();
  const clock = createSystemClock({ bootMs: () => addon.bootTimeMs() });
  const version = readVersion();
  const audit = await openAudit(join(config.stateDir, 'audit', 'audit.jsonl'), { clock });
  stops.push(() => audit.close());
  const budget = new VaultBudget({ clock, random: createSystemRandom() });
  const vault = openVaults({ config, credentialsDirectory, logger, addon, clock, budget });
  stops.push(() => vault.close());
  const platformKey = openPlatformKey(config.platformKey, { addon, credentialsDirectory, logger });
  const platform = platformKeySource(platformKey);
  const core = {
    ...createCore({ config, logger, addon, clock, vault, platform }),
    platformKey: platformKey?.id ?? null,
  };
  const { sets, disks, plane, alarms } = core;
  stops.push(() => plane.stop());
  const metrics = new Metrics({ sources: createMetricsSources({ ...core, budget }), version });
  const trail = new Trail({ audit, clock, metrics, alarms, logger });
  const anchors = new Anchors({ audit, config: config.audit, clock, logger, alarms, metrics });
  stops.push(() => anchors.close());
  trail.watchSets(sets);
  trail.watchDisks(disks);
  await trail.record('daemon-started', { version, pid: process.pid, config: config.path });
  stops.push(() => trail.record('daemon-stopped', { pid: process.pid }));
  stops.push(() => sets.close());
  stops.push(() => disks.close());
  await loadObjects(core);
  anchors.start();
  const reloader = new Reloader({ ...core, config, readConfig, anchors, trail });
  const services = await serve({
    config,
    reloader,
    credentialsDirectory,
    sockets,
    logger,
    version,
    audit,
    metrics,
    trail,
    core,
    stops,
  });
  stops.push(() => plane.stopNegotiating());
  // Clients that come during the end wait for the next daemon, where the service manager holds the
  // socket; else they are refused by the kernel, and not by a disk that happens to be going.
  stops.push(() => plane.closeListeners());
  logger.info({ version, pid: process.pid, admin: adminPath(sockets, config) }, 'ready');
  return startedOf(services, core, logger);
}

function startedOf(services: DaemonServices, { plane, clock }: Core, logger: Logger): Started {
  const reported = {
    counts: () => services.counts(),
    shards: () => plane.shards(),
    shardTicks: () => plane.shardTicks(),
    clock,
  };
  return { plane, reported, reload: () => reloadOnSignal(services, logger) };
}

function claimInherited(
  addon: Addon,
  config: FilledConfig,
  inherited: readonly InheritedFd[],
): InheritedSockets {
  const claim = (fd: number): ListeningAddress =>
    callNative("using the service manager's sockets", () => addon.claimListener(fd), {
      InvalidArgument: codes.ERR_ACTIVATION,
    });
  return claimSockets(inherited, { config, claim });
}

/** What was left half done of a set goes on only once its disks are known. */
async function loadObjects({ sets, disks, alarms }: Core): Promise<void> {
  await sets.load();
  await disks.load();
  sets.resume();
  for (const { name, message } of [...sets.broken(), ...disks.broken()]) {
    alarms.raise(`record ${name}`, message);
  }
}

async function reloadOnSignal(services: DaemonServices, logger: Logger): Promise<void> {
  try {
    const { files, changed } = await services.reload(OURSELVES);
    logger.info({ files, changed }, 'reloaded on SIGHUP');
  } catch (error) {
    logger.error({ cause: messageOf(error) }, 'reload on SIGHUP failed');
  }
}

/**
 * Opens the doors: NBD, metrics, and last the admin socket, which says that the daemon is ready.
 */
async function serve(options: {
  config: FilledConfig;
  reloader: Reloader;
  credentialsDirectory: string | undefined;
  sockets: InheritedSockets;
  logger: Logger;
  version: string;
  audit: AuditLog;
  metrics: Metrics;
  trail: Trail;
  core: Core & { readonly platformKey: string | null };
  stops: Array<() => Promise<void> | void>;
}): Promise<DaemonServices> {
  const { config, reloader, sockets, logger, version } = options;
  const { audit, metrics, trail, core, stops } = options;
  const { plane, sets, disks, alarms, clock, addon } = core;
  const nbd = await openNbd(plane, config, sockets.nbd);
  const metricsServer = await openMetrics({ config, metrics, logger, alarms });
  if (metricsServer !== undefined) stops.push(() => metricsServer.close());
  const startedAtMs = clock.nowMs();
  const adminSocket = adminPath(sockets, config);
  const exports = new AuditExports({ audit, clock, version });
  const services = new DaemonServices({
    facts: () => ({
      version,
      startedAtMs,
      xtsKernel: kernelInUse(addon, config.dataPlane.xts),
      nbd,
      metricsUrl: metricsServer?.url ?? null,
      adminSocket,
      platformKey: core.platformKey,
      identities: Object.keys(reloader.config.identities),
    }),
    sets,
    disks,
    plane,
    trail,
    audit,
    alarms,
    clock,
    doctor: createDoctor(options),
    exportAudit: (query) => exports.start(query),
    reload: (caller) => reloader.reload(caller),
  });
  if (sockets.admin === null) await makeDirectory(dirname(adminSocket), { mode: 0o755 });
  const admin: AdminServer = await startAdminServer({
    socketPath: adminSocket,
    ...(sockets.admin === null ? {} : { fd: sockets.admin.fd }),
    services,
    peerCredentials: (fd) => addon.peerCredentials(fd),
    logger,
    clock,
    version,
  });
  stops.push(() => admin.close());
  return services;
}

async function openMetrics(options: {
  config: FilledConfig;
  metrics: Metrics;
  logger: Logger;
  alarms: Alarms;
}): Promise<MetricsServer | undefined> {
  const { config, metrics, logger, alarms } = options;
  const { listen } = config.metrics;
  if (listen === null) return undefined;
  const trouble = (): string | null => alarms.list()[0]?.message ?? null;
  return startMetricsServer({ listen, metrics, logger, trouble });
}

function createDoctor(options: {
  config: FilledConfig;
  reloader: Reloader;
  credentialsDirectory: string | undefined;
  core: Core & { readonly platformKey: string | null };
}): Doctor {
  const { config, reloader, credentialsDirectory, core } = options;
  const { sets, plane, clock, addon } = core;
  return new Doctor({
    config: () => reloader.config,
    credentialsDirectory,
    clock,
    random: createSystemRandom(),
    sets,
    host: () => {
      const shards = plane.shards();
      return {
        procDirectory: '/proc',
        sysDirectory: '/sys',
        stateDir: config.stateDir,
        daemonUid: process.geteuid?.() ?? 0,
        memfdSecret: addon.hasMemfdSecret(),
        engine: plane.engine,
        shards: { total: shards.length, alive: shards.filter(({ alive }) => alive).length },
      };
    },
  });
}

/** Where the admin API is found. A socket without a name is reached by whoever bound it. */
function adminPath({ admin }: InheritedSockets, config: FilledConfig): string {
  const { address } = admin ?? {};
  return address?.kind === 'unix' && address.path !== '' ? address.path : config.admin.socket;
}

/** Serves on what the service manager passed, or else on what the config says; their addresses. */
async function openNbd(
  plane: DataPlane,
  config: FilledConfig,
  inherited: readonly InheritedSocket[],
): Promise<string[]> {
  const { socket, socketTls, listen, tls, tlsFiles } = config.nbd;
  if (tlsFiles !== null) loadTls(plane, tlsFiles);
  for (const { fd, address } of inherited) {
    plane.adoptListener(fd, address.kind === 'unix' ? socketTls : tls);
  }
  if (inherited.length > 0) return inherited.map(({ address }) => socketText(address));
  await makeDirectory(dirname(socket), { mode: 0o755 });
  plane.listenUnix(socket, NBD_SOCKET_MODE, socketTls);
  const addresses = [`unix:${socket}`];
  for (const { host, port, tls: mode } of listen) {
    const bound = plane.listenTcp(host, port, mode);
    addresses.push(host.includes(':') ? `[${host}]:${bound}` : `${host}:${bound}`);
  }
  return addresses;
}

function kernelInUse(addon: Addon, setting: string): string {
  return setting === 'auto' ? (addon.xtsKernels()[0] ?? 'evp') : setting;
}

// SPDX-License-Identifier: Apache-2.0
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Status } from '../../admin/api.js';
import { createAdminClient } from '../../admin/client.js';
import { KeyholdError } from '../../base/errors.js';
import { createDevVaultClient } from '../../devvault/control-client.js';
import type { VaultReady } from '../commands/vault-serve.js';
import { codes } from '../errors.js';
import { EXIT_CODES, type ExitCode } from '../exit-codes.js';
import { plain } from '../text.js';
import { prepareConfig } from './config-file.js';
import { ensureDemoSet, serveDemoDisk } from './demo.js';
import { Family, firstLine } from './family.js';
import { lockDirectory } from './lock.js';
import { type SignalSource, watchStopSignals } from './signals.js';
import { createStateDirectory, type DevPaths } from './state-directory.js';

/** A loaded machine needs seconds for the start of two processes and the first probe. */
const START_MS_MAX = 60_000;
/** Children of a killed `dev` are gone by then: they stop when it does, within their own bound. */
const LEFTOVER_MS_MAX = 15_000;
const POLL_MS = 50;
/** How long after a broken call the news of its child's death may take. */
const CHILD_END_MS_MAX = 300;
/** One question whether the daemon is up. */
const STATUS_MS_MAX = 5000;

export interface CommandLine {
  readonly command: string;
  readonly args: readonly string[];
}

export interface DevRun {
  readonly paths: DevPaths;
  readonly demoDisk: boolean;
  /** 0 to 65535; undefined leaves it to keyhold.toml, or is the usual one in a new file. */
  readonly metricsPort?: number | undefined;
  /** Prints the ready line of `vault serve`, then runs until SIGTERM or the end of its input. */
  readonly vaultCommand: CommandLine;
  readonly daemonCommand: CommandLine;
  readonly signals: SignalSource;
  /** Takes progress, a line at a time. */
  readonly note: (line: string) => void;
  /** Called once, when everything serves. */
  readonly onReady: (status: Status) => void;
  readonly startMsMax?: number;
  /** How long a creation of the demo's objects that fails is tried again. */
  readonly createMsMax?: number;
  readonly stopMsMax?: number;
}

/**
 * Runs the embedded vault and the daemon as two processes until a signal comes: the vault holds
 * private keys, which must never be in the daemon's memory. If either ends by itself, or anything
 * fails on the way up, both are ended and the error is thrown.
 */
export async function runDev(run: DevRun): Promise<ExitCode> {
  await createStateDirectory(run.paths);
  const lock = await lockDirectory(run.paths.directory);
  const family = new Family(run.stopMsMax === undefined ? {} : { stopMsMax: run.stopMsMax });
  const stop = watchStopSignals(run.signals, () => {
    run.note('killing at once');
    family.kill();
  });
  const childEnded = new AbortController();
  family.unexpectedEnd.catch((error: unknown) => childEnded.abort(error));
  const signal = AbortSignal.any([stop.first, childEnded.signal]);
  try {
    // Not only its own waits: a call that is under way must not hold up a stop.
    await Promise.race([bringUp(run, family, signal), aborted(signal)]);
    await aborted(signal);
    childEnded.signal.throwIfAborted();
  } catch (error) {
    // A stop that was asked for is no failure, however far the start had come.
    if (!stop.first.aborted) throw await explain(run, error, childEnded.signal);
  } finally {
    if (stop.first.aborted) run.note('stopping');
    await family.stop();
    stop.dispose();
    await lock.release();
  }
  return stop.forced ? EXIT_CODES.killed : EXIT_CODES.ok;
}

async function bringUp(run: DevRun, family: Family, signal: AbortSignal): Promise<void> {
  const { paths, note } = run;
  for (const socketPath of [paths.adminSocket, paths.vaultSocket]) {
    await waitUntilUnserved(socketPath, signal);
  }
  const startMsMax = run.startMsMax ?? START_MS_MAX;
  note('starting the embedded vault');
  const vault = await startVault(run, family, bounded('vault', startMsMax, signal));
  const { metricsPort } = run;
  await prepareConfig(paths, vault, metricsPort === undefined ? { note } : { metricsPort, note });
  note('starting the daemon');
  const status = await startDaemon(run, family, bounded('daemon', startMsMax, signal));
  const demo = {
    admin: createAdminClient({ socketPath: paths.adminSocket }),
    vault: createDevVaultClient({ socketPath: vault.controlSocket }),
    signal,
    note,
    createMsMax: run.createMsMax,
  };
  await ensureDemoSet(demo);
  if (run.demoDisk) await serveDemoDisk(demo);
  signal.throwIfAborted();
  run.onReady(status);
}

async function startVault(run: DevRun, family: Family, signal: AbortSignal): Promise<VaultReady> {
  const child = await family.start({
    name: 'vault',
    ...run.vaultCommand,
    logPath: run.paths.vaultLog,
    readStdout: true,
  });
  // Both ends come from one program: the line's shape is the other end's promise.
  return JSON.parse(await firstLine(child, signal)) as VaultReady;
}

async function startDaemon(run: DevRun, family: Family, signal: AbortSignal): Promise<Status> {
  const { adminSocket: socketPath } = run.paths;
  const admin = createAdminClient({ socketPath, timeoutMs: STATUS_MS_MAX });
  const child = await family.start({
    name: 'daemon',
    ...run.daemonCommand,
    logPath: run.paths.daemonLog,
  });
  for (;;) {
    try {
      const status = await admin.status();
      if (status.pid === child.pid) return status;
    } catch (error) {
      if (!(error instanceof KeyholdError && error.kind === 'unavailable')) throw error;
    }
    await pause(signal);
  }
}

/** A pause that ends with the signal's own reason, not with a general AbortError. */
async function pause(signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  try {
    await delay(POLL_MS, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}

function bounded(name: string, startMsMax: number, signal: AbortSignal): AbortSignal {
  const late = new AbortController();
  setTimeout(() => {
    late.abort(
      new KeyholdError(
        codes.ERR_CLI_DEV_TIMEOUT,
        `process ${name} is not ready: expected at most ${startMsMax} ms`,
        { fields: { name, timeoutMs: startMsMax } },
      ),
    );
  }, startMsMax).unref();
  return AbortSignal.any([signal, late.signal]);
}

async function waitUntilUnserved(socketPath: string, signal: AbortSignal): Promise<void> {
  const deadlineMs = performance.now() + LEFTOVER_MS_MAX;
  while (await isServed(socketPath)) {
    if (performance.now() > deadlineMs) {
      throw new KeyholdError(
        codes.ERR_CLI_DEV_RUNNING,
        `cannot start: expected nobody on ${socketPath}, but a process answers there`,
        { fields: { socketPath } },
      );
    }
    await pause(signal);
  }
}

function isServed(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/**
 * A call that failed because a child died is reported as that child's death, with the end of its
 * log, which says more than a connection that was reset.
 */
async function explain(run: DevRun, error: unknown, childEnded: AbortSignal): Promise<unknown> {
  await Promise.race([aborted(childEnded), delay(CHILD_END_MS_MAX)]);
  const cause = childEnded.aborted ? (childEnded.reason as unknown) : error;
  if (cause instanceof KeyholdError && Array.isArray(cause.fields['log'])) {
    for (const line of cause.fields['log']) run.note(`  ${plain(String(line))}`);
  }
  return cause;
}

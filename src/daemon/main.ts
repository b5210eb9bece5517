// SPDX-License-Identifier: Apache-2.0
import { type Logger, createLogger } from '../base/logger.js';
import { messageOf } from '../base/errors.js';
import { type FilledConfig, loadConfig } from '../config/config.js';
import { loadAddon } from '../dataplane/load.js';
import { takeInheritedFds } from './activation.js';
import { Daemon } from './daemon.js';
import { Notifier, takeServiceManager } from './notify.js';
import { Reports } from './reports.js';

/** A daemon that does not stop within this time ends anyway; supervisors wait 10 s. */
const STOP_MS_MAX = 8_000;

/**
 * Runs the daemon until a signal ends it; resolves with the exit status. Throws KeyholdError when
 * it cannot start; nothing is left behind then.
 */
export async function runDaemon(options: { configPath: string }): Promise<number> {
  const inherited = takeInheritedFds(process.env, process.pid);
  const manager = takeServiceManager(process.env, process.pid);
  const readConfig = async (): Promise<FilledConfig> =>
    withKernel(await loadConfig(options.configPath), process.env['KEYHOLD_XTS']);
  const config = await readConfig();
  const logger = createLogger({ level: process.env['KEYHOLD_LOG_LEVEL'] ?? 'info' });
  const stopSignal = nextSignal();
  // Until there is something to reload: the default would end the daemon.
  process.on('SIGHUP', () => undefined);
  // From the signal on, not from the end of the start: a start that hangs is ended by it too.
  void stopSignal.then(() => limitStop(logger));
  // A promise that somebody else's code forgot is no reason to take disks down.
  process.on('unhandledRejection', (reason) => {
    logger.error({ cause: messageOf(reason) }, 'unhandled rejection');
  });
  const daemon = await Daemon.start({
    config,
    readConfig,
    logger,
    inherited,
    credentialsDirectory: process.env['CREDENTIALS_DIRECTORY'],
  });
  const notifier = new Notifier({
    ...manager,
    pid: process.pid,
    send: (socketPath, state) => loadAddon().notify(socketPath, state),
    // The clock that libuv has it from is CLOCK_MONOTONIC.
    monotonicUs: () => process.hrtime.bigint() / 1000n,
    logger,
  });
  const reports = new Reports({ notifier, manager, reported: daemon.reported, logger });
  process.on('SIGHUP', () => void reports.around(() => daemon.reload()));
  const endShards = (): void => daemon.stopNow();
  // Node joins its workers at exit: without this, an exit by any other way would never end.
  process.on('exit', endShards);
  const signal = await stopSignal;
  logger.info({ signal }, 'stopping');
  reports.stop();
  await daemon.stop();
  process.off('exit', endShards);
  return 0;
}

/** The variable wins over the config: a kernel is forced for one run, to test or to compare. */
function withKernel(config: FilledConfig, xts: string | undefined): FilledConfig {
  if (xts === undefined || xts === '') return config;
  return { ...config, dataPlane: { ...config.dataPlane, xts } };
}

/** SIGTERM and SIGINT stop the daemon; a second one ends it at once. */
function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let seen = false;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (seen) process.exit(1);
      seen = true;
      resolve(signal);
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

function limitStop(logger: Logger): void {
  const timer = setTimeout(() => {
    logger.error({ limitMs: STOP_MS_MAX }, 'stopping took too long');
    process.exit(1);
  }, STOP_MS_MAX);
  timer.unref();
}

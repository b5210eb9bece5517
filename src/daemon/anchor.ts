// SPDX-License-Identifier: Apache-2.0
import { execFile } from 'node:child_process';
import { hostname } from 'node:os';
import { formatAnchor } from '../audit/anchors.js';
import type { AuditLog } from '../audit/audit-log.js';
import type { Clock, Timer } from '../base/clock.js';
import { messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { AuditConfig } from '../config/audit.js';
import type { Alarms } from './alarms.js';

const ALARM = 'audit anchor';
/** syslog takes a line in microseconds; a daemon that hangs is given up. */
const SYSLOG_TIMEOUT_MS = 5000;

export interface AnchorsOptions {
  readonly audit: Pick<AuditLog, 'snapshot'>;
  readonly config: AuditConfig;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly alarms: Pick<Alarms, 'raise' | 'clear'>;
  readonly metrics: { observeAnchor(result: 'ok' | 'failed'): void };
}

/**
 * Says at intervals, outside the audit log, where its end is and what hash it has. Whoever rewrites
 * the log from some record on, which its own chain cannot show, has to rewrite those places too.
 * Nothing waits for it, and its failure stops nothing: it raises an alarm until it works again.
 */
export class Anchors {
  #options: AnchorsOptions;
  #anchoring = false;
  #timer: Timer | undefined;
  #anchoredSeq = 0;
  #working: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: AnchorsOptions) {
    this.#options = options;
  }

  /** Does nothing when the configuration asks for no anchors. */
  start(): void {
    const { anchorIntervalMs } = this.#options.config;
    if (anchorIntervalMs !== null && !this.#closed) this.#schedule(anchorIntervalMs);
  }

  /** From here on this config; the next anchor comes a whole interval later. */
  reconfigure(config: AuditConfig): void {
    this.#options = { ...this.#options, config };
    this.#timer?.cancel();
    // One that is being written schedules the next itself.
    if (!this.#anchoring) this.start();
  }

  /** One more, for what happened since; then no more. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.cancel();
    await this.#working;
    if (this.#options.config.anchorIntervalMs !== null) await this.#anchor();
  }

  #schedule(intervalMs: number): void {
    this.#timer = this.#options.clock.setTimer(intervalMs, () => {
      this.#anchoring = true;
      this.#working = this.#anchor().finally(() => {
        this.#anchoring = false;
        this.start();
      });
    });
  }

  /** Never rejects. A failed one is tried again at the next interval. */
  async #anchor(): Promise<void> {
    const { audit, config, logger, alarms, metrics } = this.#options;
    const { seq, hash, path } = audit.snapshot();
    if (seq === this.#anchoredSeq) return;
    const line = formatAnchor({ host: hostname(), seq, hash, path });
    logger.info({ event: 'audit-anchor', seq, hash, path }, line);
    try {
      if (config.syslog) await sendToSyslog(line, config.syslogSocket);
      this.#anchoredSeq = seq;
      metrics.observeAnchor('ok');
      alarms.clear(ALARM);
    } catch (error) {
      metrics.observeAnchor('failed');
      alarms.raise(ALARM, `syslog did not take an anchor: ${messageOf(error)}`);
      logger.error({ event: 'audit-anchor', cause: messageOf(error) }, 'audit anchor failed');
    }
  }
}

/**
 * Node has no AF_UNIX datagrams, which is what /dev/log speaks; util-linux's logger does. It is
 * told to fail rather than to lose a line quietly.
 */
function sendToSyslog(line: string, socket: string | undefined): Promise<void> {
  const args = [
    ...['--tag', 'keyhold', `--id=${process.pid}`, '--priority', 'authpriv.notice'],
    ...['--socket-errors=on', ...(socket === undefined ? [] : ['--socket', socket])],
    ...['--', line],
  ];
  return new Promise((resolve, reject) => {
    const options = { timeout: SYSLOG_TIMEOUT_MS, killSignal: 'SIGKILL' } as const;
    execFile('logger', args, options, (error, _stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(stderr.trim().slice(0, 200) || messageOf(error)));
    });
  });
}

// SPDX-License-Identifier: Apache-2.0
import { pino } from 'pino';

/** What the rest of the program logs with; pino's shape, so that tests can hand in a silent one. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

/** JSON lines on standard output. Fields that could carry a secret are struck out by name. */
export function createLogger(options: { level: string }): Logger {
  return pino({
    level: options.level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    redact: {
      paths: ['*.secret', '*.token', '*.password', '*.clientSecret', '*.value', '*.wrapped'],
      censor: '[redacted]',
    },
  });
}

/** A logger that drops everything. */
export function createSilentLogger(): Logger {
  return pino({ level: 'silent' });
}

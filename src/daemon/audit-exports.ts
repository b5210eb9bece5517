// SPDX-License-Identifier: Apache-2.0
import { hostname } from 'node:os';
import type { AuditExportQuery } from '../admin/api-audit.js';
import type { AuditLog } from '../audit/audit-log.js';
import { codes } from '../audit/errors.js';
import { prepareExport } from '../audit/export.js';
import { type ExportHead, formatExport } from '../audit/export-form.js';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';

/** Each reads the whole log twice, and hashing it shares the control plane's thread. */
const EXPORTS_MAX = 2;

interface AuditExportsOptions {
  readonly audit: Pick<AuditLog, 'snapshot'>;
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly version: string;
}

/** Exports of the audit log: what was acknowledged when each was asked for, as a stream. */
export class AuditExports {
  readonly #options: AuditExportsOptions;
  #running = 0;

  constructor(options: AuditExportsOptions) {
    this.#options = options;
  }

  /** Resolves when the chain was checked; the records are read while the text is. */
  async start(query: AuditExportQuery): Promise<AsyncIterable<string>> {
    if (this.#running >= EXPORTS_MAX) {
      throw new KeyholdError(
        codes.ERR_AUDIT_EXPORT_BUSY,
        `cannot export the audit log: ${this.#running} exports run, at most ${EXPORTS_MAX} may`,
      );
    }
    const { audit, clock, version } = this.#options;
    const snapshot = audit.snapshot();
    const head: ExportHead = {
      host: hostname(),
      daemonVersion: version,
      path: snapshot.path,
      exportedAt: new Date(clock.nowMs()).toISOString(),
      query: { ...query },
    };
    this.#running += 1;
    try {
      const found = await prepareExport(snapshot, query);
      return this.#counted(formatExport(head, found));
    } finally {
      this.#running -= 1;
    }
  }

  /** Counts from the first piece that is asked for: a caller may be gone before that. */
  async *#counted(text: AsyncIterable<string>): AsyncGenerator<string> {
    this.#running += 1;
    try {
      yield* text;
    } finally {
      this.#running -= 1;
    }
  }
}

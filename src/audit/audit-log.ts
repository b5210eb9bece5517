// SPDX-License-Identifier: Apache-2.0
import { constants, mkdir, open, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../base/atomic-file.js';
import type { Clock } from '../base/clock.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';
import type { LogSnapshot } from './export.js';
import { createRecord, type AuditRecord } from './record.js';
import { readTail, type Tail } from './tail.js';
import { compareHead, verifyAudit, type AuditReport } from './verify.js';

/**
 * Records that wait for the disk. A healthy disk lets a handful gather, but ten thousand disks that
 * lose their key in one turn of the event loop say several things each; about 1 KiB a record.
 */
export const QUEUE_RECORDS_MAX = 100_000;
/** Records that share one fdatasync. */
const BATCH_RECORDS_MAX = 1024;

/** What the log needs of its file; a FileHandle fits. Tests hand in a disk that is full. */
export interface AuditFile {
  write(
    data: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesWritten: number }>;
  truncate(lengthBytes: number): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
}

interface Pending {
  readonly time: string;
  readonly kind: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly resolve: (record: AuditRecord) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Opens the log at `path`, or begins one (mode 0600, directory 0700). A last line that a crash cut
 * short is moved to `<path>.torn-<seq>` and recorded as `audit-recovered`; a last record that is
 * whole but wrong is ERR_AUDIT_CORRUPT, and nothing is changed. One writer per path: the daemon's
 * lock on its state directory sees to that.
 */
export async function openAudit(path: string, options: { clock: Clock }): Promise<AuditLog> {
  let file: FileHandle | undefined;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    await syncDirectory(dirname(path));
    const tail = await readTail(file, path);
    const tornPath = `${path}.torn-${tail.seq + 1}`;
    await setTornLineAside(file, tornPath, tail);
    const log = new AuditLog({ path, file, tail, clock: options.clock });
    // Asked of the directory, so that a crash between moving and recording loses no record of it.
    const tornBytes = await sizeOf(tornPath);
    if (tornBytes !== undefined) {
      await log.append('audit-recovered', { tornBytes, movedTo: tornPath });
    }
    return log;
  } catch (error) {
    await file?.close();
    if (error instanceof KeyholdError) throw error;
    throw new KeyholdError(
      codes.ERR_AUDIT_OPEN,
      `cannot open audit log ${path}: ${messageOf(error)}`,
      { fields: { path, errno: codeOf(error) }, cause: error },
    );
  }
}

/** The torn bytes are safe in a file of their own before they leave the log. */
async function setTornLineAside(file: FileHandle, tornPath: string, tail: Tail): Promise<void> {
  if (tail.torn.length === 0) return;
  await writeFile(tornPath, tail.torn, { mode: 0o600, flush: true });
  await syncDirectory(dirname(tornPath));
  await file.truncate(tail.endBytes);
  await file.sync();
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * The append-only, hash-chained log. `append` resolves when the record is on the disk, in the order
 * of the calls. When a write fails the records of that write are rejected, the file is as before,
 * and later appends try again: a disk that has space again needs no restart.
 */
export class AuditLog {
  readonly path: string;
  readonly #file: AuditFile;
  readonly #clock: Clock;
  readonly #queue: Pending[] = [];
  #seq: number;
  #hash: string;
  #lengthBytes: number;
  #writing: Promise<void> | undefined;
  #closed = false;
  /** Bytes of a failed write may stand behind the last record. */
  #remains = false;

  constructor(options: { path: string; file: AuditFile; tail: Omit<Tail, 'torn'>; clock: Clock }) {
    this.path = options.path;
    this.#file = options.file;
    this.#clock = options.clock;
    this.#seq = options.tail.seq;
    this.#hash = options.tail.hash;
    this.#lengthBytes = options.tail.endBytes;
  }

  /** Sequence number of the last acknowledged record; 0 for an empty log. */
  get lastSeq(): number {
    return this.#seq;
  }

  /**
   * Writes a record. `fields` hold facts and never a secret; what JSON cannot hold is left out.
   * Rejects with ERR_AUDIT_NO_SPACE, ERR_AUDIT_WRITE, ERR_AUDIT_QUEUE_FULL, ERR_AUDIT_RECORD or
   * ERR_AUDIT_CLOSED; the log then has no trace of the record.
   */
  append(kind: string, fields: Readonly<Record<string, unknown>> = {}): Promise<AuditRecord> {
    const refuse = (code: string, detail: string): Promise<never> =>
      Promise.reject(new KeyholdError(code, `cannot write audit record ${kind}: ${detail}`));
    if (this.#closed) return refuse(codes.ERR_AUDIT_CLOSED, 'the log is closed');
    if (this.#queue.length >= QUEUE_RECORDS_MAX) {
      const detail = `${this.#queue.length} records wait, at most ${QUEUE_RECORDS_MAX} may`;
      return refuse(codes.ERR_AUDIT_QUEUE_FULL, detail);
    }
    const time = new Date(this.#clock.nowMs()).toISOString();
    return new Promise((resolve, reject) => {
      this.#queue.push({ time, kind, fields: snapshot(fields), resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  /**
   * Checks the whole chain, up to the last acknowledged record, and that it ends there: the writer
   * knows what it wrote, so a file cut short, put in the log's place or written anew does not pass.
   */
  async verify(): Promise<AuditReport> {
    const snapshot = this.snapshot();
    return compareHead(await verifyAudit(this.path, snapshot), snapshot);
  }

  /** The acknowledged part of the log, and its last record. */
  snapshot(): LogSnapshot {
    const { path } = this;
    return { path, lengthBytes: this.#lengthBytes, seq: this.#seq, hash: this.#hash };
  }

  /** Writes what waits, then closes the file. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#writing;
    await this.#file.close();
  }

  async #drain(): Promise<void> {
    // One turn later, so that records that are appended together share one fdatasync.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      await this.#writeBatch(this.#queue.splice(0, BATCH_RECORDS_MAX));
    }
    this.#writing = undefined;
  }

  /** Settles every record of the batch; never throws. */
  async #writeBatch(batch: readonly Pending[]): Promise<void> {
    let seq = this.#seq;
    let hash = this.#hash;
    const written: { pending: Pending; record: AuditRecord }[] = [];
    const lines: string[] = [];
    for (const pending of batch) {
      const { time, kind, fields } = pending;
      try {
        const made = createRecord({ seq: seq + 1, time, kind, fields, prev: hash });
        seq += 1;
        hash = made.record.hash;
        lines.push(made.line, '\n');
        written.push({ pending, record: made.record });
      } catch (error) {
        pending.reject(error as Error);
      }
    }
    const data = Buffer.from(lines.join(''));
    try {
      await this.#writeDurably(data);
    } catch (error) {
      for (const { pending } of written) pending.reject(this.#writeError(pending.kind, error));
      return;
    }
    this.#seq = seq;
    this.#hash = hash;
    this.#lengthBytes += data.length;
    for (const { pending, record } of written) pending.resolve(record);
  }

  /**
   * On error the file ends where it ended before; if the disk refuses even that, no later write
   * begins until it did, and a crash meanwhile leaves a torn line for the next open to set aside.
   */
  async #writeDurably(data: Uint8Array): Promise<void> {
    if (this.#remains) {
      await this.#file.truncate(this.#lengthBytes);
      this.#remains = false;
    }
    try {
      for (let done = 0; done < data.length;) {
        const position = this.#lengthBytes + done;
        const { bytesWritten } = await this.#file.write(data, done, data.length - done, position);
        if (bytesWritten === 0) throw new Error('the file takes no more bytes');
        done += bytesWritten;
      }
      await this.#file.datasync();
    } catch (error) {
      this.#remains = true;
      await this.#file.truncate(this.#lengthBytes).then(
        () => (this.#remains = false),
        () => undefined,
      );
      throw error;
    }
  }

  #writeError(kind: string, error: unknown): KeyholdError {
    const errno = codeOf(error);
    const full = errno === 'ENOSPC' || errno === 'EDQUOT';
    return new KeyholdError(
      full ? codes.ERR_AUDIT_NO_SPACE : codes.ERR_AUDIT_WRITE,
      `cannot write audit record ${kind} to ${this.path}: ${messageOf(error)}`,
      { fields: { path: this.path, kind, errno }, cause: error },
    );
  }
}

/** Taken at the call, so that what the caller changes afterwards changes no record. */
function snapshot(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return JSON.parse(JSON.stringify(fields)) as Record<string, unknown>;
}

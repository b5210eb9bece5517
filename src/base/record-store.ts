// SPDX-License-Identifier: Apache-2.0
import { link, lstat, mkdir, readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { shredFile, syncDirectory, unlinkDurable, writeFileAtomic } from './atomic-file.js';
import { messageOf } from './errors.js';
import { NAME_PATTERN } from './names.js';
import { describeIssues, formatIssues } from './schema-issues.js';

/** A record is a page of JSON; a file above this is none. */
const RECORD_BYTES_MAX = 256 * 1024;

/** A record file that cannot be used. Its name stays taken; everything else goes on without it. */
export interface BrokenRecord {
  readonly name: string;
  readonly path: string;
  readonly message: string;
}

/** A second name of a record that was replaced and whose bytes are yet to be overwritten. */
const SHRED_SUFFIX = '.json.shred';

/** Read one after the other, ten thousand records would wait for the event loop 60,000 times. */
const READS_AT_ONCE = 32;

/**
 * One JSON file for each record, `NAME.json` in one directory, schema-checked on reading and
 * written all-or-nothing. At most one write per name at a time is the caller's business.
 */
export class RecordStore<T extends { readonly name: string }> {
  readonly #directory: string;
  readonly #schema: z.ZodType<T>;
  readonly #uniqueId: (record: T) => string;

  constructor(options: {
    directory: string;
    schema: z.ZodType<T>;
    /** What no two records may share besides the name; the second one is broken. */
    uniqueId: (record: T) => string;
  }) {
    this.#directory = options.directory;
    this.#schema = options.schema;
    this.#uniqueId = options.uniqueId;
  }

  pathOf(name: string): string {
    return join(this.#directory, `${name}.json`);
  }

  /** Reads every record, in order of their names. Creates the directory when it is missing. */
  async load(): Promise<{ records: T[]; broken: BrokenRecord[] }> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const records: T[] = [];
    const broken: BrokenRecord[] = [];
    const nameById = new Map<string, string>();
    const files = (await readdir(this.#directory)).sort();
    for (const file of files) {
      if (file.endsWith('.json.tmp')) await unlink(join(this.#directory, file));
      if (file.endsWith(SHRED_SUFFIX)) await this.#finishShredding(file);
    }
    const names = files
      .filter((file) => file.endsWith('.json'))
      .map((file) => file.slice(0, -'.json'.length));
    const read: PromiseSettledResult<T>[] = [];
    for (let first = 0; first < names.length; first += READS_AT_ONCE) {
      const some = names.slice(first, first + READS_AT_ONCE);
      read.push(...(await Promise.allSettled(some.map((name) => this.#read(name)))));
    }
    for (const [index, result] of read.entries()) {
      const name = names[index] ?? '';
      try {
        if (result.status === 'rejected') throw result.reason;
        const record = result.value;
        const id = this.#uniqueId(record);
        const other = nameById.get(id);
        if (other !== undefined) throw new Error(`id ${id} is also that of ${other}`);
        nameById.set(id, name);
        records.push(record);
      } catch (error) {
        broken.push({ name, path: this.pathOf(name), message: messageOf(error) });
      }
    }
    return { records, broken };
  }

  /**
   * If the call fails the old record, if any, is untouched. Refuses to write what `load` would
   * refuse to read.
   */
  async save(record: T): Promise<void> {
    const text = `${JSON.stringify(this.#schema.parse(record), null, 2)}\n`;
    await writeFileAtomic(this.pathOf(record.name), text, { mode: 0o600 });
  }

  /**
   * As `save`, and then overwrites the bytes of the file that was replaced. What a crash leaves of
   * that is done by the next `load`. Of older versions of the record, and of what a file system or
   * drive has copied, it knows nothing.
   */
  async saveShredding(record: T): Promise<void> {
    const path = this.pathOf(record.name);
    const old = `${path}${SHRED_SUFFIX.slice('.json'.length)}`;
    // Of a call that failed in the middle.
    if (await exists(old)) await this.#finishShredding(`${record.name}${SHRED_SUFFIX}`);
    await link(path, old);
    await syncDirectory(this.#directory);
    await this.save(record);
    await shredFile(old);
  }

  /** Removing a record that is gone already is no error. */
  async remove(name: string): Promise<void> {
    try {
      await unlinkDurable(this.pathOf(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      await syncDirectory(this.#directory);
    }
  }

  /** Before the rename it is but a second name of the record that is in use. */
  async #finishShredding(file: string): Promise<void> {
    const path = join(this.#directory, file);
    const { nlink } = await lstat(path);
    await (nlink > 1 ? unlinkDurable(path) : shredFile(path));
  }

  async #read(name: string): Promise<T> {
    if (!NAME_PATTERN.test(name)) throw new Error('the file name is not a valid name');
    const path = this.pathOf(name);
    const { size } = await lstat(path);
    if (size > RECORD_BYTES_MAX) {
      throw new Error(`${size} bytes, expected at most ${RECORD_BYTES_MAX}`);
    }
    const value: unknown = JSON.parse(await readFile(path, 'utf8'));
    const parsed = this.#schema.safeParse(value);
    if (!parsed.success) {
      throw new Error(formatIssues(describeIssues(this.#schema, value, parsed.error.issues)));
    }
    if (parsed.data.name !== name) {
      throw new Error(`name: expected ${name} as the file is called, got ${parsed.data.name}`);
    }
    return parsed.data;
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

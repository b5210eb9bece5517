// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open } from 'node:fs/promises';

/** What a write or sync throws after the death. */
export class Died extends Error {}

/**
 * Lets this process's file operations end as kill -9 would, at the n-th fsync: that one and every
 * write and fsync after it fail, so that nothing more becomes durable. What was renamed before
 * stays, as it does when a process is killed.
 */
export class DyingFiles {
  readonly #prototype: FileHandle;
  readonly #sync: FileHandle['sync'];
  readonly #write: FileHandle['write'];
  readonly #writeFile: FileHandle['writeFile'];
  /** Syncs so far. */
  count = 0;
  #deadAt = Infinity;

  private constructor(prototype: FileHandle) {
    this.#prototype = prototype;
    // eslint-disable-next-line @typescript-eslint/unbound-method -- put back as they were
    const { sync, write, writeFile } = prototype;
    this.#sync = sync;
    this.#write = write;
    this.#writeFile = writeFile;
  }

  static async install(): Promise<DyingFiles> {
    const file = await open('/dev/null', 'r');
    const files = new DyingFiles(Object.getPrototypeOf(file) as FileHandle);
    await file.close();
    files.#patch();
    return files;
  }

  get dead(): boolean {
    return this.count >= this.#deadAt;
  }

  /** From here on `count` begins anew, and the n-th sync is the last thing that is tried. */
  dieAt(sync: number): void {
    this.count = 0;
    this.#deadAt = sync;
  }

  revive(): void {
    this.#deadAt = Infinity;
  }

  uninstall(): void {
    Object.assign(this.#prototype, {
      sync: this.#sync,
      write: this.#write,
      writeFile: this.#writeFile,
    });
  }

  #patch(): void {
    // eslint-disable-next-line @typescript-eslint/no-this-alias -- methods of another object
    const files = this;
    const [sync, write, writeFile] = [this.#sync, this.#write, this.#writeFile];
    Object.assign(this.#prototype, {
      async sync(this: FileHandle): Promise<void> {
        files.count += 1;
        if (files.dead) throw new Died();
        await sync.call(this);
      },
      async write(this: FileHandle, ...args: Parameters<FileHandle['write']>): Promise<unknown> {
        if (files.dead) throw new Died();
        return write.apply(this, args);
      },
      async writeFile(
        this: FileHandle,
        ...args: Parameters<FileHandle['writeFile']>
      ): Promise<void> {
        if (files.dead) throw new Died();
        await writeFile.apply(this, args);
      },
    });
  }
}

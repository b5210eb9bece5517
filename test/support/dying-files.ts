// SPDX-License-Identifier: Apache-2.0
import fs, { type FileHandle, open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';

/** What a write or sync throws after the death. */
export class Died extends Error {}

const HANDLE_METHODS = ['sync', 'datasync', 'write', 'writeFile', 'truncate'] as const;
const PATH_FUNCTIONS = ['rename', 'unlink', 'link'] as const;

type Operation = (this: unknown, ...args: unknown[]) => Promise<unknown>;
type Operations = Record<string, Operation>;

/**
 * Lets this process's file operations end as kill -9 would, at the n-th fsync: that one and
 * everything after it that changes a file fail, also what would clean up. What was written and
 * renamed before stays, as it does when a process is killed.
 */
export class DyingFiles {
  /** What is put back in the end: the objects that were patched, with their own functions. */
  readonly #originals: ReadonlyArray<readonly [target: Operations, own: Operations]>;
  /** Syncs so far. */
  count = 0;
  #deadAt = Infinity;

  private constructor(handles: Operations) {
    const functions = fs as unknown as Operations;
    this.#originals = [
      this.#patch(handles, HANDLE_METHODS),
      this.#patch(functions, PATH_FUNCTIONS),
    ];
    syncBuiltinESMExports();
  }

  static async install(): Promise<DyingFiles> {
    const file = await open('/dev/null', 'r');
    const files = new DyingFiles(Object.getPrototypeOf(file) as FileHandle & Operations);
    await file.close();
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
    for (const [target, own] of this.#originals) Object.assign(target, own);
    syncBuiltinESMExports();
  }

  #patch(target: Operations, names: readonly string[]): [Operations, Operations] {
    // eslint-disable-next-line @typescript-eslint/no-this-alias -- methods of another object
    const files = this;
    const own: Operations = {};
    for (const name of names) {
      const operation = target[name];
      if (operation === undefined) throw new Error(`${name}: no such operation`);
      own[name] = operation;
      target[name] = async function (this: unknown, ...args: unknown[]): Promise<unknown> {
        if (name === 'sync') files.count += 1;
        if (files.dead) throw new Died();
        return operation.apply(this, args);
      };
    }
    return [target, own];
  }
}

// SPDX-License-Identifier: Apache-2.0
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { type RunOptions, runOk } from '../process.js';

/** Where Debian keeps what administrators run; not in every user's PATH. */
const SYSTEM_FOLDERS = ['/usr/sbin', '/sbin'];

/** What to do about anything that a virtual machine needs and that is not there. */
export const HOW_TO_INSTALL = 'run: bash .ci/setup vm';

/** The path of a program of this machine; rejects with the command that installs a missing one. */
export async function findProgram(name: string): Promise<string> {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_FOLDERS];
  for (const folder of folders) {
    const path = join(folder, name);
    const usable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== '' && usable) return path;
  }
  throw new Error(`cannot find program ${name}; ${HOW_TO_INSTALL}`);
}

/** Runs a program that may be in a system folder and must succeed; returns what it printed. */
export async function runProgram(
  name: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  return runOk(await findProgram(name), args, options);
}

/** The shared libraries that a program loads, by path; none for a static one. */
export async function librariesOf(path: string): Promise<string[]> {
  const listed = await runProgram('ldd', [path]);
  return parseLdd(listed);
}

/** Lines are `NAME => PATH (ADDRESS)` or, for the loader, `PATH (ADDRESS)`. */
export function parseLdd(listed: string): string[] {
  if (/not found/.test(listed)) throw new Error(`ldd: a library is missing:\n${listed}`);
  return [...listed.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)].map((match) => match[1] ?? '');
}

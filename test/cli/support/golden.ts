// SPDX-License-Identifier: Apache-2.0
import { readFile, writeFile } from 'node:fs/promises';
import { type CliOptions, type CliResult, cli } from './run-cli.js';

/**
 * What a person sees: each command with its output, standard error and exit code. Refreshed by
 * `UPDATE_GOLDEN=1 npx tap test/cli`.
 */
export class Transcript {
  readonly #options: CliOptions;
  readonly #replacements: ReadonlyArray<readonly [string, string]>;
  #text = '';

  constructor(options: CliOptions, replacements: Readonly<Record<string, string>> = {}) {
    this.#options = options;
    this.#replacements = Object.entries(replacements);
  }

  async run(...args: string[]): Promise<CliResult> {
    const result = await cli(args, this.#options);
    const shown = args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : JSON.stringify(arg)));
    const parts = [
      `$ keyhold ${shown.join(' ')}\n`,
      result.stdout,
      result.stderr.replace(/^(?=.)/gm, '! '),
      result.status === 0 ? '' : `exit ${String(result.status)}\n`,
    ];
    this.#text += `${parts.join('')}\n`;
    return result;
  }

  /**
   * The expected text and the actual one, equal after an update; `before` is what other transcripts
   * printed.
   */
  get text(): string {
    return this.#text;
  }

  async compare(name: string, before = ''): Promise<{ expected: string; actual: string }> {
    const path = new URL(`../golden/${name}.txt`, import.meta.url);
    let actual = before + this.#text;
    for (const [from, to] of this.#replacements) actual = actual.replaceAll(from, to);
    if (process.env['UPDATE_GOLDEN'] === '1') await writeFile(path, actual);
    return { expected: await readFile(path, 'utf8'), actual };
  }
}

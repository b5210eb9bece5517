// SPDX-License-Identifier: Apache-2.0
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import typescript from 'typescript';

const repository = new URL('../../../', import.meta.url).pathname;

/**
 * Turns src/base and src/vault into JavaScript in a directory of its own, so that a test can start
 * them as a real process without the build and without a loader. Returns the directory.
 */
export function transpileVault(): string {
  const directory = mkdtempSync(join(tmpdir(), 'keyhold-vault-js-'));
  for (const area of ['base', 'vault']) {
    mkdirSync(join(directory, area));
    for (const name of readdirSync(join(repository, 'src', area))) {
      if (!name.endsWith('.ts')) continue;
      const source = readFileSync(join(repository, 'src', area, name), 'utf8');
      const { outputText } = typescript.transpileModule(source, {
        compilerOptions: {
          module: typescript.ModuleKind.ESNext,
          target: typescript.ScriptTarget.ES2023,
          verbatimModuleSyntax: true,
        },
      });
      writeFileSync(join(directory, area, name.replace(/\.ts$/, '.js')), outputText);
    }
  }
  writeFileSync(join(directory, 'package.json'), '{"type":"module"}');
  symlinkSync(join(repository, 'node_modules'), join(directory, 'node_modules'));
  return directory;
}

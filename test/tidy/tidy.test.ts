// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'tap';

const root = new URL('../../', import.meta.url).pathname;

/** Later may import earlier, never the other way (docs/ARCHITECTURE.md). */
const AREA_ORDER = [
  'base',
  'luks2',
  'nbd',
  'vault',
  'sets',
  'disks',
  'dataplane',
  'audit',
  'metrics',
  'config',
  'admin',
  'devvault',
  'daemon',
  'cli',
];

/** Third-party packages and the one area that may import each. */
const PACKAGE_OWNERS: Readonly<Record<string, readonly string[]>> = {
  '@azure/keyvault-keys': ['vault'],
  '@azure/identity': ['vault'],
  '@azure/core-auth': ['vault'],
  '@azure/core-rest-pipeline': ['vault'],
  piscina: ['dataplane'],
  pino: ['base'],
  fastify: ['admin'],
  '@fastify/swagger': ['admin'],
  'prom-client': ['metrics'],
  'smol-toml': ['config'],
  commander: ['cli'],
  'cli-progress': ['cli'],
};

const FILE_LINES_MAX = 600;
/** What a file is split at, unless it is in LONG_FILES. */
const FILE_LINES_AIM = 400;

/** Files that are one thing although they are long, and which thing. */
const LONG_FILES: Readonly<Record<string, string>> = {
  'src/sets/encryption-set.ts': 'the one place where verdicts become access',
};

/** Calls that have a better replacement here. */
const BANNED: ReadonlyArray<readonly [RegExp, string]> = [
  [/\bNODE_TLS_REJECT_UNAUTHORIZED\b/, 'pass a CA'],
  [/\bconsole\.(log|error|warn)\b/, 'use the logger, or the CLI output module'],
  [/\bDefaultAzureCredential\b/, 'name the credential in the config'],
];

function filesUnder(folder: string, endings: readonly string[]): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && endings.some((ending) => entry.name.endsWith(ending)))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('native/build/'));
}

const typescript = ['src', 'test', 'bench'].flatMap((folder) => filesUnder(folder, ['.ts']));
const native = ['native', 'bench'].flatMap((folder) => filesUnder(folder, ['.cc', '.h']));

function linesOf(path: string): string[] {
  return readFileSync(join(root, path), 'utf8').split('\n');
}

function importsOf(path: string): string[] {
  const text = readFileSync(join(root, path), 'utf8');
  const pattern = /(?:\bfrom|\bimport\()\s*'([^']+)'/g;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? '');
}

void test('an area imports only areas before it', (t) => {
  const wrong: string[] = [];
  for (const path of typescript.filter((file) => file.startsWith('src/'))) {
    const area = path.split('/')[1] ?? '';
    t.ok(AREA_ORDER.includes(area), `${path} is in a known area`);
    for (const specifier of importsOf(path)) {
      const target = /^\.\.\/([a-z0-9]+)\//.exec(specifier)?.[1];
      if (target === undefined) continue;
      if (AREA_ORDER.indexOf(target) > AREA_ORDER.indexOf(area))
        wrong.push(`${path}: ${specifier}`);
    }
  }
  t.strictSame(wrong, []);
  t.end();
});

void test('each third-party package has one owner', (t) => {
  const wrong: string[] = [];
  for (const path of typescript.filter((file) => file.startsWith('src/'))) {
    const area = path.split('/')[1] ?? '';
    for (const specifier of importsOf(path)) {
      const owners = PACKAGE_OWNERS[specifier];
      if (owners !== undefined && !owners.includes(area)) wrong.push(`${path}: ${specifier}`);
    }
  }
  t.strictSame(wrong, []);
  t.end();
});

void test('the daemon side never imports the embedded vault', (t) => {
  const wrong = typescript
    .filter((path) => path.startsWith('src/') && !/^src\/(devvault|cli)\//.test(path))
    .filter((path) => importsOf(path).some((specifier) => specifier.includes('/devvault/')));
  t.strictSame(wrong, []);
  t.end();
});

void test('only the binding includes node-api headers', (t) => {
  const wrong = native
    .filter((path) => !path.startsWith('native/binding/'))
    .filter((path) =>
      linesOf(path).some((line) => /#include\s*[<"](napi|node_api|uv|v8)/.test(line)),
    );
  t.strictSame(wrong, []);
  t.end();
});

function filesLongerThan(lineCountMax: number): string[] {
  // What comes after the last newline is no line.
  return [...new Set([...typescript, ...native])]
    .filter((path) => linesOf(path).length - 1 > lineCountMax)
    .sort();
}

void test('files are at most 600 lines', (t) => {
  t.strictSame(filesLongerThan(FILE_LINES_MAX), []);
  t.end();
});

void test('files of more than 400 lines are those that are meant to be', (t) => {
  t.strictSame(filesLongerThan(FILE_LINES_AIM), Object.keys(LONG_FILES).sort());
  t.end();
});

void test('lines are at most 100 columns', (t) => {
  const wrong: string[] = [];
  for (const path of [...typescript, ...native]) {
    linesOf(path).forEach((line, index) => {
      // A string that the formatter cannot break is left whole.
      const unbreakable = /['"`][^'"`]{60,}['"`]|https?:\/\//.test(line);
      if (line.length > 100 && !unbreakable) wrong.push(`${path}:${String(index + 1)}`);
    });
  }
  t.strictSame(wrong, []);
  t.end();
});

void test('every file begins with its licence', (t) => {
  const wrong = [...typescript, ...native].filter(
    (path) =>
      !linesOf(path)
        .slice(0, 2)
        .some((line) => line === '// SPDX-License-Identifier: Apache-2.0'),
  );
  t.strictSame(wrong, []);
  t.end();
});

void test('no banned call', (t) => {
  const wrong: string[] = [];
  for (const path of typescript.filter((file) => file.startsWith('src/'))) {
    linesOf(path).forEach((line, index) => {
      for (const [pattern, instead] of BANNED) {
        if (pattern.test(line)) wrong.push(`${path}:${String(index + 1)}: ${instead}`);
      }
    });
  }
  t.strictSame(wrong, []);
  t.end();
});

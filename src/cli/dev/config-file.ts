// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { writeFileAtomic } from '../../base/atomic-file.js';
import { codeOf, KeyholdError } from '../../base/errors.js';
import type { VaultReady } from '../commands/vault-serve.js';
import { codes } from '../errors.js';
import type { DevPaths } from './state-directory.js';

const METRICS_HOST = '127.0.0.1';
/** The port of DESIGN.md; another one is taken, and remembered, when it is busy. */
const METRICS_PORT_DEFAULT = 9754;

/** Values of keyhold.toml that the rest of `keyhold dev` depends on, by section and key. */
type DevFacts = Readonly<Record<string, string>>;

/**
 * Makes sure that keyhold.toml exists and fits this directory and this vault. A file that stands is
 * the user's: it is checked, and nothing in it is changed but a metrics port that is busy.
 */
export async function prepareConfig(
  paths: DevPaths,
  vault: VaultReady,
  options: { metricsPort?: number; note?: (line: string) => void } = {},
): Promise<void> {
  const facts = factsOf(paths, vault);
  const text = await readIfThere(paths.config);
  if (text === undefined) {
    const port = await freePort(options.metricsPort ?? METRICS_PORT_DEFAULT);
    await writeFileAtomic(paths.config, render(facts, port), { mode: 0o600 });
    return;
  }
  checkFacts(paths.config, text, facts);
  const wanted = metricsPortOf(text);
  if (wanted === undefined) return;
  const port = await freePort(wanted);
  if (port === wanted) return;
  options.note?.(`metrics port ${wanted} is busy: ${paths.config} says ${port} from now on`);
  const line = `listen = "${METRICS_HOST}:${port}"`;
  await writeFileAtomic(paths.config, text.replace(metricsLine(wanted), line), { mode: 0o600 });
}

function factsOf(paths: DevPaths, vault: VaultReady): DevFacts {
  return {
    state_dir: paths.daemonState,
    'nbd.socket': paths.nbdSocket,
    'admin.socket': paths.adminSocket,
    'identity.dev.kind': 'embedded-vault',
    'identity.dev.authority_host': vault.url,
    'identity.dev.tenant_id': vault.tenantId,
    'identity.dev.client_id': vault.clientId,
    'identity.dev.secret_file': vault.clientSecretPath,
    'vault.ca_file': vault.caPath,
  };
}

function render(facts: DevFacts, metricsPort: number): string {
  const sections = new Map<string, string[]>([['', []]]);
  for (const [path, value] of Object.entries({
    ...facts,
    'metrics.listen': `${METRICS_HOST}:${metricsPort}`,
  })) {
    const dot = path.lastIndexOf('.');
    const section = path.slice(0, Math.max(0, dot));
    const lines = sections.get(section) ?? [];
    // A basic string of TOML takes what JSON escapes.
    lines.push(`${path.slice(dot + 1)} = ${JSON.stringify(value)}\n`);
    sections.set(section, lines);
  }
  const body = [...sections].map(([section, lines]) => {
    return section === '' ? lines.join('') : `\n[${section}]\n${lines.join('')}`;
  });
  return `# Written by keyhold dev. Delete it to have it written anew.\n${body.join('')}`;
}

/** Throws for the first value that differs; nothing is written then. */
function checkFacts(path: string, text: string, facts: DevFacts): void {
  const found = stringsOf(text);
  for (const [name, expected] of Object.entries(facts)) {
    const actual = found.get(name);
    if (actual === expected) continue;
    throw new KeyholdError(
      codes.ERR_CLI_DEV_CONFIG,
      `cannot start with ${path}: expected ${name} = ${JSON.stringify(expected)}, ` +
        `found ${actual === undefined ? 'none' : JSON.stringify(actual)}`,
      { fields: { path, name, expected, actual: actual ?? null } },
    );
  }
}

const LINE =
  /^\s*(?:\[(?<section>[\w.-]+)\]|(?<key>[\w-]+)\s*=\s*(?<value>"[^"]*"|'[^']*'))\s*(?:#.*)?$/;

/**
 * The strings of a TOML file by section and key, for files of the form that `render` writes: one
 * section or string a line. The daemon parses the whole of TOML and checks everything else.
 */
function stringsOf(text: string): Map<string, string> {
  const strings = new Map<string, string>();
  let section = '';
  for (const line of text.split('\n')) {
    const groups = LINE.exec(line)?.groups;
    if (groups?.['section'] !== undefined) section = `${groups['section']}.`;
    const { key, value } = groups ?? {};
    if (key !== undefined && value !== undefined) strings.set(section + key, unquote(value));
  }
  return strings;
}

function unquote(value: string): string {
  if (value.startsWith("'")) return value.slice(1, -1);
  try {
    return JSON.parse(value) as string;
  } catch {
    return value.slice(1, -1); // an escape that JSON has not: it will not be equal
  }
}

/** No other section of the file listens on this host: the value itself finds its line. */
function metricsLine(port: number): RegExp {
  return new RegExp(`listen\\s*=\\s*["']127\\.0\\.0\\.1:${port}["']`);
}

/** The recorded port, if metrics are served on the host that this program writes. */
function metricsPortOf(text: string): number | undefined {
  const match = /^127\.0\.0\.1:(\d{1,5})$/.exec(stringsOf(text).get('metrics.listen') ?? '');
  return match === null ? undefined : Number(match[1]);
}

/** `wanted` if nobody listens on it, else any free port. */
async function freePort(wanted: number): Promise<number> {
  for (const port of [wanted, 0]) {
    const bound = await tryPort(port);
    if (bound !== undefined) return bound;
  }
  throw new KeyholdError(
    codes.ERR_CLI_DEV_CONFIG,
    `cannot find a port for metrics on ${METRICS_HOST}: expected a free one, found none`,
    { fields: { host: METRICS_HOST } },
  );
}

function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ host: METRICS_HOST, port, exclusive: true }, () => {
      const address = server.address();
      const bound = typeof address === 'object' ? address?.port : undefined;
      server.close(() => resolve(bound));
    });
  });
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { writeFileAtomic } from '../../base/atomic-file.js';
import { codeOf, KeyholdError } from '../../base/errors.js';
import { type FilledConfig, parseConfig } from '../../config/config.js';
import type { VaultReady } from '../commands/vault-serve.js';
import { codes } from '../errors.js';
import { DEMO_IDENTITY } from './demo.js';
import type { DevPaths } from './state-directory.js';

const METRICS_HOST = '127.0.0.1';
/** The port of DESIGN.md; another one is taken, and remembered, when it is busy. */
const METRICS_PORT_DEFAULT = 9754;

/** Values of keyhold.toml that the rest of `keyhold dev` depends on, by section and key. */
type DevFacts = Readonly<Record<string, unknown>>;

/**
 * Makes sure that keyhold.toml exists and fits this directory and this vault. A file that stands is
 * the user's: it is checked, and nothing in it is changed but a metrics port that is busy, or is
 * not the one that was asked for. `metricsPort` 0 takes any free port for a new file.
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
  const config = parseConfig(text, paths.config);
  checkFacts(config, facts);
  const listen = config.metrics.listen;
  if (listen === null || listen.host !== METRICS_HOST) return;
  const wanted = options.metricsPort || listen.port;
  const port = await freePort(wanted);
  if (port === listen.port) return;
  const why = port === wanted ? '' : `metrics port ${wanted} is busy: `;
  options.note?.(`${why}${paths.config} says metrics port ${port} from now on`);
  const line = `listen = "${METRICS_HOST}:${port}"`;
  const changed = text.replace(metricsLine(listen.port), line);
  await writeFileAtomic(paths.config, changed, { mode: 0o600 });
}

function factsOf(paths: DevPaths, vault: VaultReady): DevFacts {
  return {
    state_dir: paths.daemonState,
    'nbd.socket': paths.nbdSocket,
    'admin.socket': paths.adminSocket,
    ...prefixed(`identity.${DEMO_IDENTITY}.`, {
      kind: 'embedded-vault',
      authority_host: vault.url,
      tenant_id: vault.tenantId,
      client_id: vault.clientId,
      secret_file: vault.clientSecretPath,
    }),
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
    // Strings and booleans of JSON are strings and booleans of TOML.
    lines.push(`${path.slice(dot + 1)} = ${JSON.stringify(value)}\n`);
    sections.set(section, lines);
  }
  const body = [...sections].map(([section, lines]) => {
    return section === '' ? lines.join('') : `\n[${section}]\n${lines.join('')}`;
  });
  return `# Written by keyhold dev. Delete it to have it written anew.\n${body.join('')}`;
}

/** Throws for the first value that differs. */
function checkFacts(config: FilledConfig, facts: DevFacts): void {
  const found: Readonly<Record<string, unknown>> = {
    state_dir: config.stateDir,
    'nbd.socket': config.nbd.socket,
    'admin.socket': config.admin.socket,
    'vault.ca_file': config.vault.caFile,
    ...prefixed(`identity.${DEMO_IDENTITY}.`, config.identities[DEMO_IDENTITY] ?? {}),
  };
  for (const [name, expected] of Object.entries(facts)) {
    const actual = found[name];
    if (actual === expected) continue;
    throw new KeyholdError(
      codes.ERR_CLI_DEV_CONFIG,
      `cannot start with ${config.path}: expected ${name} = ${JSON.stringify(expected)}, ` +
        `found ${actual === undefined ? 'none' : JSON.stringify(actual)}`,
      { fields: { path: config.path, name, expected, actual: actual ?? null } },
    );
  }
}

function prefixed(prefix: string, object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [prefix + key, value]));
}

/** The value finds its line: nothing else in the file can listen on this address. */
function metricsLine(port: number): RegExp {
  return new RegExp(`listen\\s*=\\s*["']127\\.0\\.0\\.1:${port}["']`);
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

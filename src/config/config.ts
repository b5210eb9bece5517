// SPDX-License-Identifier: Apache-2.0
import { open } from 'node:fs/promises';
import { parse as parseToml, TomlError } from 'smol-toml';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { describeIssues, formatIssues, type SchemaIssue } from '../base/schema-issues.js';
import { parseDurationMs } from '../base/units.js';
import type { IdentityConfig } from '../vault/identity-config.js';
import { parseAddress, type Address } from './address.js';
import { codes } from './errors.js';
import { type AuditConfig, fillAudit } from './audit.js';
import { checkNbd, fillNbd, type NbdConfig } from './nbd.js';
import { isUsablePath } from './paths.js';
import { configSchema, type ConfigFile, type ENGINE_SETTINGS } from './schema.js';

/** A config that a person writes is a few KiB. */
const FILE_BYTES_MAX = 2 ** 20;

/** Where the host's platform key lies. */
export type PlatformKeyConfig =
  | { readonly kind: 'file'; readonly path: string }
  /** A systemd credential, in the directory that the service manager names. */
  | { readonly kind: 'credential'; readonly name: string };

/** The config with every default applied; durations in milliseconds. */
export interface FilledConfig {
  /** The file that it came from. */
  readonly path: string;
  readonly stateDir: string;
  readonly nbd: NbdConfig;
  readonly admin: { readonly socket: string };
  readonly audit: AuditConfig;
  /** `listen` null: no metrics are served. */
  readonly metrics: { readonly listen: Address | null };
  readonly dataPlane: {
    /** 0: one per core. */
    readonly shards: number;
    /** `auto` or a kernel's name; whether this machine can run it, native code says. */
    readonly xts: string;
    /** Whether this host permits it, native code says. */
    readonly engine: (typeof ENGINE_SETTINGS)[number];
    /** `auto`: by the number of cores. */
    readonly cipherThreads: number | 'auto';
    readonly busyPollUs: number;
  };
  /** Null: the host has none. */
  readonly platformKey: PlatformKeyConfig | null;
  /** Left out: the disk service's own defaults, 30 s and 60 s. */
  readonly disks: {
    /** How long clients of an offline disk may read their ESHUTDOWN before they are cut off. */
    readonly lingerMs?: number;
    /** Restart mode: how long the last client of a revoked disk may be gone. */
    readonly graceMs?: number;
  };
  /** By name. */
  readonly identities: Readonly<Record<string, IdentityConfig>>;
  readonly vault: {
    readonly caFile?: string;
    readonly verifyChallengeResource: boolean;
    /** May hold a password: not for logs. */
    readonly proxy?: string;
    readonly timeoutMs: number;
    /** Left out: the SDK's own. */
    readonly serviceVersion?: string;
  };
}

/**
 * Reads and checks a config file. Throws ERR_CONFIG_READ, ERR_CONFIG_SYNTAX or
 * ERR_CONFIG_INVALID.
 */
export async function loadConfig(path: string): Promise<FilledConfig> {
  return parseConfig(await readConfigFile(path), path);
}

/** `loadConfig` on text that was read already; `path` is for messages. */
export function parseConfig(text: string, path: string): FilledConfig {
  const document = parseDocument(text, path);
  const parsed = configSchema.safeParse(document);
  const issues = parsed.success
    ? checkTogether(parsed.data)
    : describeIssues(configSchema, document, parsed.error.issues);
  if (parsed.success && issues.length === 0) return fill(parsed.data, path);
  throw new KeyholdError(codes.ERR_CONFIG_INVALID, `config ${path}: ${formatIssues(issues)}`, {
    fields: { path, issues },
  });
}

async function readConfigFile(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const { size: sizeBytes } = await file.stat();
      if (sizeBytes > FILE_BYTES_MAX) {
        throw new Error(`expected at most ${FILE_BYTES_MAX} bytes, got ${sizeBytes}`);
      }
      return new TextDecoder('utf-8', { fatal: true }).decode(await file.readFile());
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_CONFIG_READ,
      `cannot read config ${path}: ${messageOf(error)}`,
      { fields: { path, errno: codeOf(error) }, cause: error },
    );
  }
}

function parseDocument(text: string, path: string): unknown {
  try {
    return parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    // The parser's message goes on with an excerpt of the file; its first line says what is wrong.
    const [reason = ''] = error.message.split('\n');
    const detail = reason.replace('Invalid TOML document: ', '');
    const { line, column } = error;
    throw new KeyholdError(
      codes.ERR_CONFIG_SYNTAX,
      `config ${path}, line ${line}, column ${column}: ${detail}`,
      { fields: { path, line, column } },
    );
  }
}

/** What fields must be to each other. */
function checkTogether(file: ConfigFile): SchemaIssue[] {
  const issues = checkNbd(file.nbd ?? {});
  const nbdSocket = fillNbd(file.nbd ?? {}).socket;
  if (nbdSocket === (file.admin?.socket ?? DEFAULTS.adminSocket)) {
    const message = `expected another path than nbd.socket, got ${nbdSocket}`;
    issues.push({ path: 'admin.socket', message });
  }
  const { file: keyFile, credential } = file.platform_key ?? {};
  if (file.platform_key !== undefined && (keyFile === undefined) === (credential === undefined)) {
    const found = keyFile === undefined ? 'neither' : 'both';
    issues.push({ path: 'platform_key', message: `expected file or credential, got ${found}` });
  }
  return [...issues, ...relativeIdentityFiles(file)];
}

/** What a relative path means hangs on where the daemon was started. */
function relativeIdentityFiles(file: ConfigFile): SchemaIssue[] {
  return Object.entries(file.identity ?? {}).flatMap(([name, identity]) =>
    Object.entries(identity).flatMap(([field, value]) => {
      if (!field.endsWith('_file') || typeof value !== 'string' || isUsablePath(value)) return [];
      const message = `expected an absolute path, got ${JSON.stringify(value)}`;
      return [{ path: `identity.${name}.${field}`, message }];
    }),
  );
}

/** The one place where defaults are applied. */
const DEFAULTS = {
  stateDir: '/var/lib/keyhold',
  adminSocket: '/run/keyhold/admin.sock',
  metricsListen: '127.0.0.1:9754',
  shards: 0,
  xts: 'auto',
  engine: 'auto',
  cipherThreads: 'auto',
  busyPollUs: 100,
  vaultTimeout: '5s',
} as const;

function fill(file: ConfigFile, path: string): FilledConfig {
  const metricsListen = file.metrics?.listen ?? DEFAULTS.metricsListen;
  return {
    path,
    stateDir: file.state_dir ?? DEFAULTS.stateDir,
    nbd: fillNbd(file.nbd ?? {}),
    admin: { socket: file.admin?.socket ?? DEFAULTS.adminSocket },
    audit: fillAudit(file.audit ?? {}),
    metrics: { listen: metricsListen === '' ? null : addressOf(metricsListen) },
    dataPlane: {
      shards: file.data_plane?.shards ?? DEFAULTS.shards,
      xts: file.data_plane?.xts ?? DEFAULTS.xts,
      engine: file.data_plane?.engine ?? DEFAULTS.engine,
      cipherThreads: file.data_plane?.cipher_threads ?? DEFAULTS.cipherThreads,
      busyPollUs: file.data_plane?.busy_poll_us ?? DEFAULTS.busyPollUs,
    },
    platformKey: platformKeyOf(file.platform_key ?? {}),
    disks: {
      ...(file.disks?.linger === undefined ? {} : { lingerMs: parseDurationMs(file.disks.linger) }),
      ...(file.disks?.grace === undefined ? {} : { graceMs: parseDurationMs(file.disks.grace) }),
    },
    identities: file.identity ?? {},
    vault: {
      ...given('caFile', file.vault?.ca_file),
      verifyChallengeResource: file.vault?.verify_challenge_resource ?? true,
      ...given('proxy', file.vault?.proxy),
      timeoutMs: parseDurationMs(file.vault?.timeout ?? DEFAULTS.vaultTimeout),
      ...given('serviceVersion', file.vault?.service_version),
    },
  };
}

function platformKeyOf({
  file,
  credential,
}: NonNullable<ConfigFile['platform_key']>): PlatformKeyConfig | null {
  if (file !== undefined) return { kind: 'file', path: file };
  return credential === undefined ? null : { kind: 'credential', name: credential };
}

/** A field of its own when there is something to say. */
function given<K extends string>(
  name: K,
  text: string | undefined,
): { readonly [P in K]?: string } {
  return (text === undefined || text === '' ? {} : { [name]: text }) as { [P in K]?: string };
}

/** Of a text that the schema let through. */
function addressOf(text: string): Address {
  const address = parseAddress(text);
  if (address === undefined) throw new Error(`address ${text} passed the schema`);
  return address;
}

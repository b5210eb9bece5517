// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { KeyholdError } from '../base/errors.js';
import { allowPrincipal, denyPrincipal } from './access.js';
import {
  accessSchema,
  createKeySchema,
  emptySchema,
  settingsSchema,
  updateKeySchema,
  versionRequestSchema,
  type KeyInfo,
  type KeyVersionInfo,
  type SettingsInput,
  type VaultStatus,
} from './control-schemas.js';
import { codes } from './errors.js';
import { describePublicKey } from './key-crypto.js';
import type { KeyRing, UpdateRequest } from './key-ring.js';
import type { RequestLog } from './request-log.js';
import type { StateFile, StoredKeyVersion, VaultState } from './state.js';
import { troubleSchema, type Troubles } from './trouble.js';

export interface ControlServices {
  readonly file: StateFile;
  readonly keys: KeyRing;
  readonly troubles: Troubles;
  readonly log: RequestLog;
  /** The parts of the status that do not change while the vault runs. */
  readonly identity: Pick<
    VaultStatus,
    'url' | 'startedAt' | 'clientSecretPath' | 'caPath' | 'resource'
  >;
}

interface Command {
  readonly name: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

type Handler = (services: ControlServices, command: Command) => object | Promise<object>;

const KEY = '/keys/(?<name>[0-9a-zA-Z-]{1,127})';

const COMMANDS: ReadonlyArray<readonly [method: string, path: RegExp, handler: Handler]> = [
  ['GET', /^\/status$/, (services) => describeStatus(services)],
  ['GET', /^\/log$/, ({ log }, { query }) => ({ requests: log.recent(parseLimit(query)) })],
  ['GET', /^\/keys$/, (services) => ({ keys: describeKeys(services) })],
  ['GET', new RegExp(`^${KEY}$`), (services, { name }) => describeKey(services, name)],
  ['POST', /^\/keys$/, createKey],
  ['POST', new RegExp(`^${KEY}/disable$`), setEnabled(false)],
  ['POST', new RegExp(`^${KEY}/enable$`), setEnabled(true)],
  ['POST', new RegExp(`^${KEY}/update$`), updateKey],
  ['POST', new RegExp(`^${KEY}/delete$`), deleteKey],
  ['POST', new RegExp(`^${KEY}/recover$`), recoverKey],
  ['POST', new RegExp(`^${KEY}/purge$`), purgeKey],
  ['POST', new RegExp(`^${KEY}/rotate$`), rotateKey],
  ['POST', /^\/deny$/, changeAccess(denyPrincipal)],
  ['POST', /^\/allow$/, changeAccess(allowPrincipal)],
  ['POST', /^\/settings$/, changeSettings],
  ['POST', /^\/expire-tokens$/, expireTokens],
  ['POST', /^\/trouble$/, setTrouble],
];

/** Runs one command. Throws KeyholdError or Refusal; a command that throws has changed nothing. */
export async function runCommand(
  services: ControlServices,
  request: { method: string; url: URL; body: unknown },
): Promise<object> {
  for (const [method, path, handler] of COMMANDS) {
    const match = method === request.method ? path.exec(request.url.pathname) : null;
    if (match === null) continue;
    const name = match.groups?.['name'] ?? '';
    const query = request.url.searchParams;
    return handler(services, { name, query, body: request.body });
  }
  throw new KeyholdError(
    codes.ERR_DEVVAULT_NO_COMMAND,
    `the embedded vault has no command ${request.method} ${request.url.pathname}`,
  );
}

async function createKey(services: ControlServices, { body }: Command): Promise<object> {
  const input = parse(createKeySchema, body);
  const { kty, sizeBits, curve } = input;
  await services.keys.create(input.name, {
    spec: kty === 'EC' ? { kty, curve } : { kty, sizeBits },
    keyOps: input.ops,
    enabled: input.enabled,
    nbf: input.notBefore,
    exp: input.expires,
  });
  return describeKey(services, input.name);
}

function setEnabled(enabled: boolean): Handler {
  return async (services, { name, body }) => {
    const { version } = parse(versionRequestSchema, body);
    await updateVersions(services.keys, { name, version }, { enabled });
    return describeKey(services, name);
  };
}

async function updateKey(services: ControlServices, { name, body }: Command): Promise<object> {
  const { version, ops, enabled, notBefore, expires } = parse(updateKeySchema, body);
  const change = { keyOps: ops, enabled, nbf: notBefore, exp: expires };
  await updateVersions(services.keys, { name, version }, change);
  return describeKey(services, name);
}

async function updateVersions(
  keys: KeyRing,
  { name, version = '' }: { name: string; version: string | undefined },
  change: UpdateRequest,
): Promise<void> {
  if (version !== 'all') {
    await keys.update(name, version, change);
    return;
  }
  for (const each of keys.versions(name)) await keys.update(name, each.version, change);
}

async function deleteKey(services: ControlServices, { name, body }: Command): Promise<object> {
  parse(emptySchema, body);
  const deleted = await services.keys.delete(name);
  return describe(services, name, deleted.versions, deleted.deleted.scheduledPurgeDate);
}

async function recoverKey(services: ControlServices, { name, body }: Command): Promise<object> {
  parse(emptySchema, body);
  await services.keys.recover(name);
  return describeKey(services, name);
}

async function purgeKey(services: ControlServices, { name, body }: Command): Promise<object> {
  parse(emptySchema, body);
  await services.keys.purge(name);
  return {};
}

async function rotateKey(services: ControlServices, { name, body }: Command): Promise<object> {
  parse(emptySchema, body);
  await services.keys.rotate(name);
  return describeKey(services, name);
}

function changeAccess(change: typeof denyPrincipal): Handler {
  return async (services, { body }) => {
    const { operations, principal } = parse(accessSchema, body);
    await services.file.update((draft) => {
      change(draft, principal ?? draft.clientId, operations);
    });
    return describeStatus(services);
  };
}

async function changeSettings(services: ControlServices, { body }: Command): Promise<object> {
  const input = parse(settingsSchema, body);
  await services.file.update((draft) => applySettings(draft, input));
  return describeStatus(services);
}

/** Members that are undefined stay as they are. */
export function applySettings(draft: VaultState, settings: SettingsInput): void {
  const { accessMode, policyCode, ...direct } = settings;
  draft.access.mode = accessMode ?? draft.access.mode;
  draft.access.policyCode = policyCode ?? draft.access.policyCode;
  for (const [member, value] of Object.entries(direct)) {
    if (value !== undefined) Object.assign(draft, { [member]: value });
  }
}

async function expireTokens(services: ControlServices, { body }: Command): Promise<object> {
  parse(emptySchema, body);
  await services.file.update((draft) => {
    draft.tokenGeneration += 1;
  });
  return describeStatus(services);
}

function setTrouble(services: ControlServices, { body }: Command): object {
  services.troubles.set(parse(troubleSchema, body));
  return describeStatus(services);
}

export function describeStatus({ file, troubles, keys, identity }: ControlServices): VaultStatus {
  const state = file.current;
  return {
    ...identity,
    pid: process.pid,
    authorityHost: identity.url,
    tenantId: state.tenantId,
    clientId: state.clientId,
    recoveryLevel: state.recoveryLevel,
    recoverableDays: state.recoverableDays,
    access: state.access,
    firewall: state.firewall,
    application: state.application,
    tokenLifetimeSeconds: state.tokenLifetimeSeconds,
    troubles: troubles.list(),
    keys: keys.names().length,
  };
}

function describeKeys(services: ControlServices): KeyInfo[] {
  const { keys } = services;
  const live = keys.names().map((name) => describeKey(services, name));
  const deleted = keys.deletedNames().map((name) => {
    const key = keys.deletedKey(name);
    return describe(services, name, key.versions, key.deleted.scheduledPurgeDate);
  });
  return [...live, ...deleted];
}

function describeKey(services: ControlServices, name: string): KeyInfo {
  return describe(services, name, services.keys.versions(name), undefined);
}

function describe(
  { identity }: ControlServices,
  name: string,
  stored: readonly StoredKeyVersion[],
  scheduledPurgeDate: number | undefined,
): KeyInfo {
  const id = `${identity.url}/keys/${name}`;
  const versions = stored.map((version) => describeVersion(id, version));
  const newest = versions.at(-1);
  return {
    name,
    id,
    kid: newest?.kid ?? id,
    enabled: newest?.enabled ?? false,
    deleted: scheduledPurgeDate !== undefined,
    ...(scheduledPurgeDate === undefined ? {} : { scheduledPurgeDate }),
    versions,
  };
}

function describeVersion(id: string, stored: StoredKeyVersion): KeyVersionInfo {
  const { sizeBits } = describePublicKey(stored.privateKeyPem);
  return {
    version: stored.version,
    kid: `${id}/${stored.version}`,
    kty: stored.kty,
    ...(sizeBits === undefined ? {} : { sizeBits }),
    ops: stored.keyOps,
    enabled: stored.enabled,
    ...(stored.nbf === undefined ? {} : { notBefore: stored.nbf }),
    ...(stored.exp === undefined ? {} : { expires: stored.exp }),
    created: stored.created,
  };
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new KeyholdError(
    codes.ERR_DEVVAULT_INPUT,
    `the embedded vault cannot accept the request: ${z.prettifyError(parsed.error)}`,
  );
}

function parseLimit(query: URLSearchParams): number | undefined {
  const limit = query.get('limit');
  return limit === null ? undefined : parse(z.coerce.number().int().min(1).max(1000), limit);
}

// SPDX-License-Identifier: Apache-2.0
import { request } from 'node:http';
import { z } from 'zod';
import { KeyholdError, messageOf } from '../base/errors.js';
import type {
  AccessInput,
  CreateKeyInput,
  KeyInfo,
  LogAnswer,
  SettingsInput,
  UpdateKeyInput,
  VaultStatus,
} from './control-schemas.js';
import { codes } from './errors.js';
import type { RequestLogEntry } from './request-log.js';
import type { TroubleInput } from './trouble.js';

/** A version is 32 hexadecimal digits or `all`; without one the newest is meant. */
interface VersionChoice {
  readonly version?: string;
}

/** Drives a running embedded vault. Every method rejects with KeyholdError. */
export interface DevVaultClient {
  status(): Promise<VaultStatus>;
  keys(): Promise<readonly KeyInfo[]>;
  key(name: string): Promise<KeyInfo>;
  /** The most recent requests, oldest first. */
  log(options?: { limit?: number }): Promise<readonly RequestLogEntry[]>;
  createKey(input: CreateKeyInput): Promise<KeyInfo>;
  disableKey(name: string, choice?: VersionChoice): Promise<KeyInfo>;
  enableKey(name: string, choice?: VersionChoice): Promise<KeyInfo>;
  updateKey(name: string, input: UpdateKeyInput): Promise<KeyInfo>;
  deleteKey(name: string): Promise<KeyInfo>;
  recoverKey(name: string): Promise<KeyInfo>;
  purgeKey(name: string): Promise<void>;
  rotateKey(name: string): Promise<KeyInfo>;
  deny(input?: AccessInput): Promise<VaultStatus>;
  allow(input?: AccessInput): Promise<VaultStatus>;
  settings(input: SettingsInput): Promise<VaultStatus>;
  /** All tokens issued so far count as expired from now on. */
  expireTokens(): Promise<VaultStatus>;
  trouble(input: TroubleInput): Promise<VaultStatus>;
}

/** RSA keys of 4096 bits take some seconds to make on a slow machine. */
const TIMEOUT_MS = 60_000;

export function createDevVaultClient(options: { socketPath: string }): DevVaultClient {
  const get = <T>(path: string): Promise<T> => call<T>(options.socketPath, 'GET', path);
  const post = <T>(path: string, body: object = {}): Promise<T> =>
    call<T>(options.socketPath, 'POST', path, body);
  const keyPath = (name: string, command: string): string =>
    `/keys/${encodeURIComponent(name)}${command}`;
  return {
    status: () => get<VaultStatus>('/status'),
    keys: async () => (await get<{ keys: KeyInfo[] }>('/keys')).keys,
    key: (name) => get<KeyInfo>(keyPath(name, '')),
    log: async ({ limit = 1000 } = {}) => (await get<LogAnswer>(`/log?limit=${limit}`)).requests,
    createKey: (input) => post<KeyInfo>('/keys', input),
    disableKey: (name, choice) => post<KeyInfo>(keyPath(name, '/disable'), choice),
    enableKey: (name, choice) => post<KeyInfo>(keyPath(name, '/enable'), choice),
    updateKey: (name, input) => post<KeyInfo>(keyPath(name, '/update'), input),
    deleteKey: (name) => post<KeyInfo>(keyPath(name, '/delete')),
    recoverKey: (name) => post<KeyInfo>(keyPath(name, '/recover')),
    purgeKey: async (name) => {
      await post<object>(keyPath(name, '/purge'));
    },
    rotateKey: (name) => post<KeyInfo>(keyPath(name, '/rotate')),
    deny: (input) => post<VaultStatus>('/deny', input),
    allow: (input) => post<VaultStatus>('/allow', input),
    settings: (input) => post<VaultStatus>('/settings', input),
    expireTokens: () => post<VaultStatus>('/expire-tokens'),
    trouble: (input) => post<VaultStatus>('/trouble', input),
  };
}

/**
 * One command. The answer's shape is the server's promise: both ends come from one program, and the
 * state directory belongs to one user.
 */
async function call<T>(
  socketPath: string,
  method: string,
  path: string,
  body?: object,
): Promise<T> {
  const payload = body === undefined ? undefined : JSON.stringify(body);
  const { status, text } = await exchange(socketPath, { method, path, payload });
  const answer = parseAnswer(text, `${method} ${path}`);
  if (status === 200) return answer as T;
  const refused = errorSchema.safeParse(answer);
  if (!refused.success) throw unexpected(`${method} ${path}`, `status ${status}`);
  throw new KeyholdError(refused.data.error.code, refused.data.error.message);
}

const errorSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

function exchange(
  socketPath: string,
  { method, path, payload }: { method: string; path: string; payload: string | undefined },
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(
        new KeyholdError(
          codes.ERR_DEVVAULT_UNREACHABLE,
          `cannot reach the embedded vault on ${socketPath}: ${messageOf(error)}`,
          { fields: { socketPath }, cause: error },
        ),
      );
    const outgoing = request({
      socketPath,
      method,
      path,
      // A connection of its own, so that no idle one keeps the caller's process alive.
      agent: false,
      headers: payload === undefined ? {} : { 'content-type': 'application/json' },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    outgoing.once('error', fail);
    outgoing.once('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', fail);
      response.once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(chunks).toString('utf8'),
        }),
      );
    });
    outgoing.end(payload);
  });
}

function parseAnswer(text: string, command: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw unexpected(command, 'no JSON');
  }
}

function unexpected(command: string, found: string): KeyholdError {
  return new KeyholdError(
    codes.ERR_DEVVAULT_ANSWER,
    `the embedded vault answered ${command} with ${found}`,
  );
}

// SPDX-License-Identifier: Apache-2.0
import type { AccessToken, TokenCredential } from '@azure/identity';
import { CryptographyClient, KeyClient, type KeyClientOptions } from '@azure/keyvault-keys';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { request, type RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { createDevVaultClient, type DevVaultClient } from '../../src/devvault/control-client.js';
import {
  startDevVault,
  type DevVault,
  type DevVaultOptions,
} from '../../src/devvault/dev-vault.js';

export interface Fixture {
  readonly vault: DevVault;
  readonly control: DevVaultClient;
  readonly stateDir: string;
  readonly ca: string;
  readonly secret: string;
}

export async function makeStateDir(t: Test): Promise<string> {
  const stateDir = await mkdtemp(join(tmpdir(), 'keyhold-vault-'));
  t.teardown(() => rm(stateDir, { recursive: true, force: true }));
  return stateDir;
}

/** A vault of its own for one test, closed and removed with it. */
export async function startVault(
  t: Test,
  options: Partial<DevVaultOptions> = {},
): Promise<Fixture> {
  const stateDir = options.stateDir ?? (await makeStateDir(t));
  const vault = await startDevVault({ ...options, stateDir });
  t.teardown(() => vault.close());
  return {
    vault,
    control: createDevVaultClient({ socketPath: vault.socketPath }),
    stateDir,
    ca: await readFile(vault.caPath, 'utf8'),
    secret: (await readFile(vault.clientSecretPath, 'utf8')).trim(),
  };
}

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** undefined where the body is not JSON. */
  readonly json: Record<string, unknown> | undefined;
}

/** A bare HTTPS request that trusts nothing but the vault's CA. */
export function send(
  { vault, ca }: Pick<Fixture, 'vault' | 'ca'>,
  path: string,
  options: RequestOptions & { body?: string } = {},
): Promise<Reply> {
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const outgoing = request(`${vault.url}${path}`, { ca, agent: false, ...rest }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          json: parseObject(text),
        });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** The token request as any OAuth client sends it; `form` replaces members. */
export function requestToken(fixture: Fixture, form: Record<string, string> = {}): Promise<Reply> {
  const { vault, secret } = fixture;
  const body = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: vault.clientId,
    client_secret: secret,
    scope: `${vault.resource}/.default`,
    ...form,
  }).toString();
  return send(fixture, `/${vault.tenantId}/oauth2/v2.0/token`, { method: 'POST', body });
}

export async function fetchToken(fixture: Fixture): Promise<string> {
  const { json } = await requestToken(fixture);
  return String(json?.['access_token']);
}

/** A request with a good token. */
export async function sendAuthorized(
  fixture: Fixture,
  path: string,
  options: RequestOptions & { body?: string } = {},
): Promise<Reply> {
  const token = await fetchToken(fixture);
  return send(fixture, path, { ...options, headers: { authorization: `Bearer ${token}` } });
}

/** A credential without a cache, so that each client shows what the vault says now. */
export function createCredential(fixture: Fixture): TokenCredential {
  return {
    async getToken(scopes): Promise<AccessToken> {
      const scope = Array.isArray(scopes) ? scopes.join(' ') : scopes;
      const { status, json } = await requestToken(fixture, { scope });
      if (status !== 200) throw new Error(String(json?.['error_description']));
      return {
        token: String(json?.['access_token']),
        expiresOnTimestamp: Date.now() + Number(json?.['expires_in']) * 1000,
      };
    },
  };
}

export function clientOptions({ ca }: Fixture): KeyClientOptions {
  // Challenge verification stays on, as in production.
  return { retryOptions: { maxRetries: 0 }, tlsOptions: { ca } };
}

export function createKeyClient(fixture: Fixture): KeyClient {
  return new KeyClient(fixture.vault.url, createCredential(fixture), clientOptions(fixture));
}

/** A client that knows no key material, so that every call goes to the vault. */
export function createRemoteClient(fixture: Fixture, kid: string): CryptographyClient {
  const name = new URL(kid).pathname.split('/')[2] ?? '';
  const key = { name, id: kid, properties: { name, vaultUrl: fixture.vault.url } };
  return new CryptographyClient(key, createCredential(fixture), clientOptions(fixture));
}

/** A wrapped value and the key that can unwrap it. */
export async function makeWrapped(
  fixture: Fixture,
): Promise<{ kid: string; client: CryptographyClient; plaintext: Buffer; wrapped: Uint8Array }> {
  const { kid } = await fixture.control.createKey({ name: 'k1' });
  const client = createRemoteClient(fixture, kid);
  const plaintext = Buffer.from('thirty-two bytes of no great worth');
  const { result } = await client.wrapKey('RSA-OAEP-256', plaintext);
  return { kid, client, plaintext, wrapped: result };
}

/** What a rejected SDK call tells. */
export interface SdkFailure {
  readonly message: string;
  readonly code?: string;
  readonly statusCode?: number;
  readonly innerCode?: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Runs a call that must fail and describes the failure. */
export async function failureOf(run: () => Promise<unknown>): Promise<SdkFailure> {
  try {
    await run();
  } catch (error) {
    const thrown = error as Error & {
      code?: string;
      statusCode?: number;
      details?: { error?: { innerError?: { code?: string } } };
      response?: { headers: { toJSON(): Record<string, string> } };
    };
    const innerCode = thrown.details?.error?.innerError?.code;
    return {
      message: thrown.message,
      headers: thrown.response?.headers.toJSON() ?? {},
      ...(thrown.code === undefined ? {} : { code: thrown.code }),
      ...(thrown.statusCode === undefined ? {} : { statusCode: thrown.statusCode }),
      ...(innerCode === undefined ? {} : { innerCode }),
    };
  }
  throw new Error('the call was expected to fail, but succeeded');
}

// SPDX-License-Identifier: Apache-2.0
import {
  constants,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Certificates } from './certificates.js';

export const VERSION = '78deebed173b48e48f55abf87ed4cf71';
export const TENANT = 'tenant-1';
export const CLIENT_ID = 'client-1';
export const SECRET = 'a client secret';
export const REQUEST_ID = '7d2f5c1e-0000-4000-8000-000000000001';

/** What a genuine answer of Key Vault's carries. */
export const GENUINE_HEADERS: Readonly<Record<string, string>> = {
  'x-ms-keyvault-region': 'westeurope',
  'x-ms-keyvault-service-version': '1.9.0.0',
  'x-ms-request-id': REQUEST_ID,
};

export interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** An object is sent as JSON. */
  readonly body?: string | object;
  /** False leaves out the x-ms-keyvault-* headers. */
  readonly genuine?: boolean;
  /** Where the answer stops for ever. */
  readonly stall?: 'headers' | 'body';
  readonly drop?: boolean;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly token: string | undefined;
  readonly body: string;
  /** The client's port: tells connections apart. */
  readonly port: number;
}

type Script = (request: SeenRequest) => Reply | undefined;

/** Error bodies as the service writes them. */
export function errorBody(code: string, innerCode?: string, message = 'said the vault'): object {
  const inner = innerCode === undefined ? {} : { innererror: { code: innerCode } };
  return { error: { code, message, ...inner } };
}

/** One key for all tests of a file: making one takes longer than most tests. */
let sharedPair: { publicKey: KeyObject; privateKey: KeyObject } | undefined;

/**
 * A small scripted Key Vault with its token endpoint, over HTTPS on loopback. Every script may
 * return undefined for the honest behaviour.
 */
export class FakeVault {
  readonly requests: SeenRequest[] = [];
  readonly tokenRequests: URLSearchParams[] = [];
  readonly publicKey: KeyObject;
  onUnwrap: Script = () => undefined;
  onGet: Script = () => undefined;
  onChallenge: Script = () => undefined;
  onToken: (form: URLSearchParams, count: number) => Reply | undefined = () => undefined;
  tokenLifeSeconds = 3600;
  /** Tokens that the vault honours; replaced by tests that let a token go bad. */
  accepts: (token: string) => boolean = () => true;
  readonly #privateKey: KeyObject;
  readonly #server: Server;

  private constructor(certificates: Certificates) {
    sharedPair ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pair = sharedPair;
    this.publicKey = pair.publicKey;
    this.#privateKey = pair.privateKey;
    this.#server = createServer({ cert: certificates.cert, key: certificates.key }, (req, res) => {
      void this.#serve(req, res);
    });
  }

  static async start(certificates: Certificates): Promise<FakeVault> {
    const vault = new FakeVault(certificates);
    await new Promise<void>((resolve) => vault.#server.listen(0, '127.0.0.1', resolve));
    return vault;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get origin(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  get kid(): string {
    return `${this.origin}/keys/k1/${VERSION}`;
  }

  /** Requests to the vault proper that carried a token. */
  get authorized(): SeenRequest[] {
    return this.requests.filter(({ token }) => token !== undefined);
  }

  wrap(plaintext: Uint8Array): Uint8Array {
    const key = {
      key: this.publicKey,
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: 'sha256',
    };
    return new Uint8Array(publicEncrypt(key, plaintext));
  }

  /** The GET body of a key, from its JWK or the vault's own. */
  keyBody(overrides: { key?: object; attributes?: object } = {}): object {
    const { n, e } = this.publicKey.export({ format: 'jwk' });
    const operations = ['wrapKey', 'unwrapKey'];
    return {
      key: { kid: this.kid, kty: 'RSA', key_ops: operations, n, e, ...overrides.key },
      attributes: { enabled: true, recoveryLevel: 'Recoverable', ...overrides.attributes },
    };
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    let body = '';
    for await (const part of req) body += String(part);
    const { pathname } = new URL(req.url ?? '/', this.origin);
    const seen: SeenRequest = {
      method: req.method ?? '',
      path: pathname,
      token: req.headers.authorization?.replace(/^Bearer /, ''),
      body,
      port: req.socket.remotePort ?? 0,
    };
    if (pathname.endsWith('/oauth2/v2.0/token')) {
      const form = new URLSearchParams(body);
      this.tokenRequests.push(form);
      const reply = this.onToken(form, this.tokenRequests.length);
      send(res, { genuine: false, ...(reply ?? this.#token(form)) });
      return;
    }
    if (pathname.endsWith('/openid-configuration')) {
      send(res, { genuine: false, body: this.#discovery() });
      return;
    }
    this.requests.push(seen);
    send(res, this.#answer(seen));
  }

  /** What MSAL asks an authority for before it asks for a token. */
  #discovery(): object {
    const base = `${this.origin}/${TENANT}`;
    return {
      issuer: `${base}/v2.0`,
      authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
      token_endpoint: `${base}/oauth2/v2.0/token`,
      jwks_uri: `${base}/discovery/v2.0/keys`,
      end_session_endpoint: `${base}/oauth2/v2.0/logout`,
    };
  }

  #answer(seen: SeenRequest): Reply {
    if (seen.token === undefined || !this.accepts(seen.token)) {
      return this.onChallenge(seen) ?? this.challenge(this.origin);
    }
    if (seen.method === 'GET') {
      return this.onGet(seen) ?? { body: this.keyBody() };
    }
    return this.onUnwrap(seen) ?? this.#unwrap(seen.body);
  }

  challenge(resource: string, extra = ''): Reply {
    const authorization = `${this.origin}/${TENANT}`;
    const value = `Bearer authorization="${authorization}", resource="${resource}"${extra}`;
    return {
      status: 401,
      headers: { 'www-authenticate': value },
      body: errorBody(
        'Unauthorized',
        undefined,
        'AKV10000: Request is missing a Bearer or PoP token.',
      ),
    };
  }

  #unwrap(text: string): Reply {
    try {
      const { alg, value } = JSON.parse(text) as { alg: string; value: string };
      if (alg !== 'RSA-OAEP-256') throw new Error(alg);
      const padding = constants.RSA_PKCS1_OAEP_PADDING;
      const key = { key: this.#privateKey, padding, oaepHash: 'sha256' };
      const plaintext = privateDecrypt(key, Buffer.from(value, 'base64url'));
      return { body: { kid: this.kid, value: plaintext.toString('base64url') } };
    } catch {
      return { status: 400, body: errorBody('BadParameter') };
    }
  }

  #token(form: URLSearchParams): Reply {
    if (form.get('client_secret') !== SECRET) {
      const description = 'AADSTS7000215: Invalid client secret provided.';
      const numbers = { error_codes: [7000215] };
      const body = { error: 'invalid_client', error_description: description, ...numbers };
      return { status: 401, body };
    }
    const token = `token-${this.tokenRequests.length}`;
    return {
      body: { token_type: 'Bearer', expires_in: this.tokenLifeSeconds, access_token: token },
    };
  }
}

function send(res: ServerResponse, reply: Reply): void {
  if (reply.drop === true) {
    res.destroy();
    return;
  }
  if (reply.stall === 'headers') return;
  const { body } = reply;
  const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);
  const json = typeof body === 'object' ? { 'content-type': 'application/json' } : {};
  const genuine = reply.genuine === false ? {} : GENUINE_HEADERS;
  res.writeHead(reply.status ?? 200, {
    ...genuine,
    ...json,
    'content-length': Buffer.byteLength(text),
    ...reply.headers,
  });
  if (reply.stall === 'body') {
    res.write(text.slice(0, 1));
    return;
  }
  res.end(text);
}

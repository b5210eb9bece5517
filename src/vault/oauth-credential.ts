// SPDX-License-Identifier: Apache-2.0
import type { AccessToken, GetTokenOptions, TokenCredential } from '@azure/identity';
import { request } from 'node:https';
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import { createAgent } from './transport.js';

export interface OauthOptions {
  readonly authorityHost: string;
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly ca: string | undefined;
  readonly proxy: string | undefined;
  readonly timeoutMs: number;
}

/** An answer of the token endpoint that is no token; shaped like the SDK's AuthenticationError. */
export class TokenEndpointError extends Error {
  readonly statusCode: number;
  readonly errorResponse: { error: string; errorDescription: string; errorCodes: number[] };
  readonly headers: Readonly<Record<string, string>>;

  constructor(statusCode: number, body: unknown, headers: Record<string, string>) {
    const fields = (typeof body === 'object' && body !== null ? body : {}) as Record<
      string,
      unknown
    >;
    const { error, error_description: description, error_codes: numbers } = fields;
    const errorResponse = {
      error: typeof error === 'string' ? error : 'no_json',
      errorDescription: typeof description === 'string' ? description : 'no description',
      errorCodes: Array.isArray(numbers) ? numbers.filter((n) => typeof n === 'number') : [],
    };
    super(`${errorResponse.error} (status ${statusCode}): ${errorResponse.errorDescription}`);
    this.name = 'TokenEndpointError';
    this.statusCode = statusCode;
    this.errorResponse = errorResponse;
    this.headers = headers;
  }
}

/** A token answer has a few kilobytes. */
const ANSWER_BYTES_MAX = 64 * 1024;

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly text: string;
}

/**
 * OAuth 2.0 client credentials (RFC 6749 section 4.4) at an authority behind a private CA. It
 * spares the unwrap helper the loading of @azure/identity.
 */
export function createOauthCredential(options: OauthOptions): TokenCredential {
  return {
    async getToken(
      scopes: string | string[],
      tokenOptions?: GetTokenOptions,
    ): Promise<AccessToken> {
      checkTenant(options.tenantId, tokenOptions?.tenantId);
      const answer = await post(options, {
        grant_type: 'client_credentials',
        client_id: options.clientId,
        client_secret: options.clientSecret,
        scope: Array.isArray(scopes) ? scopes.join(' ') : scopes,
      });
      return readToken(answer);
    },
  };
}

function checkTenant(tenantId: string, challengeTenant: string | undefined): void {
  if (challengeTenant === undefined || challengeTenant === tenantId) return;
  const both = `${JSON.stringify(challengeTenant)}, the identity is of ${JSON.stringify(tenantId)}`;
  throw new KeyholdError(
    codes.ERR_IDENTITY_TENANT,
    `cannot get a token: the challenge names tenant ${both}`,
    { fields: { expected: tenantId, actual: challengeTenant } },
  );
}

function readToken({ status, headers, text }: Answer): AccessToken {
  let body: unknown;
  try {
    body = JSON.parse(text) as unknown;
  } catch {
    // Handled below as an answer without a token.
  }
  const fields = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const token = fields['access_token'];
  const expiresInSeconds = Number(fields['expires_in']);
  if (status !== 200 || typeof token !== 'string' || !(expiresInSeconds > 0)) {
    throw new TokenEndpointError(status, body, headers);
  }
  return { token, expiresOnTimestamp: Date.now() + expiresInSeconds * 1000, tokenType: 'Bearer' };
}

function post(options: OauthOptions, form: Record<string, string>): Promise<Answer> {
  const authority = options.authorityHost.replace(/\/+$/, '');
  const url = new URL(`${authority}/${encodeURIComponent(options.tenantId)}/oauth2/v2.0/token`);
  const { ca, proxy, timeoutMs } = options;
  const agent = createAgent({ ca, proxy, timeoutMs, keepAlive: false });
  const body = new URLSearchParams(form).toString();
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      method: 'POST',
      agent,
      signal: AbortSignal.timeout(timeoutMs),
      headers: {
        accept: 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': Buffer.byteLength(body),
      },
    });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > ANSWER_BYTES_MAX) outgoing.destroy(new Error('token answer is too long'));
      });
      response.once('error', reject);
      response.once('end', () => {
        const retryAfter = response.headers['retry-after'];
        const headers = retryAfter === undefined ? {} : { 'retry-after': retryAfter };
        resolve({ status: response.statusCode ?? 0, headers, text });
      });
    });
    outgoing.end(body);
  });
}

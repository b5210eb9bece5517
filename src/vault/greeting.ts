// SPDX-License-Identifier: Apache-2.0
import { request } from 'node:https';
import { TLSSocket } from 'node:tls';
import type { KeyUrl } from './key-url.js';
import { createAgent, readCa, type VaultTransport } from './transport.js';

/** What a vault says to a caller without a token. */
export interface Greeting {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly protocol: string;
  readonly certificate: { readonly subject: string; readonly issuer: string; readonly to: string };
  readonly address: string;
  readonly challenge: { readonly resource: string; readonly tenantId: string } | undefined;
}

/**
 * One request without a token, as the SDK's first one is. Whatever ends it rejects; the time limit
 * covers name, connection, TLS and the answer's head. The body is not read.
 */
export async function fetchGreeting(url: KeyUrl, transport: VaultTransport): Promise<Greeting> {
  const { timeoutMs, proxy } = transport;
  const ca = await readCa(transport.caFile);
  const agent = createAgent({ ca, proxy, timeoutMs, keepAlive: false });
  try {
    return await new Promise((resolve, reject) => {
      const outgoing = request(`${url.vaultUrl}/keys/${url.name}/?api-version=7.4`, {
        agent,
        signal: AbortSignal.timeout(timeoutMs),
      });
      outgoing.once('error', reject);
      outgoing.once('response', (response) => {
        const { socket } = response;
        if (!(socket instanceof TLSSocket)) {
          reject(new Error('the connection is not encrypted'));
          return;
        }
        const headers = Object.entries(response.headersDistinct).map(([name, values]) => [
          name,
          (values ?? []).join(', '),
        ]);
        const greeting = {
          status: response.statusCode ?? 0,
          headers: Object.fromEntries(headers) as Record<string, string>,
          ...describe(socket),
        };
        resolve({ ...greeting, challenge: readChallenge(greeting.headers['www-authenticate']) });
        response.destroy();
      });
      outgoing.end();
    });
  } finally {
    agent.destroy();
  }
}

function describe(socket: TLSSocket): Pick<Greeting, 'protocol' | 'certificate' | 'address'> {
  const { subject, issuer, valid_to: to } = socket.getPeerCertificate();
  return {
    protocol: socket.getProtocol() ?? 'unknown',
    address: socket.remoteAddress ?? 'unknown',
    certificate: { subject: nameOf(subject), issuer: nameOf(issuer), to },
  };
}

/** `subject` and `issuer` are left out for a certificate without any name. */
function nameOf(parts: { CN?: string | string[]; O?: string | string[] } | undefined): string {
  return [parts?.CN ?? parts?.O ?? 'unnamed'].flat().join(', ');
}

function readChallenge(header: string | undefined): Greeting['challenge'] {
  const parameter = (name: string): string | undefined =>
    new RegExp(`\\b${name}="([^"]*)"`).exec(header ?? '')?.[1];
  const resource = parameter('resource') ?? parameter('scope')?.replace(/\/\.default$/, '');
  const authorization = parameter('authorization') ?? parameter('authorization_uri');
  if (resource === undefined || authorization === undefined) return undefined;
  if (!URL.canParse(authorization)) return undefined;
  const [, tenantId = ''] = new URL(authorization).pathname.split('/');
  return { resource, tenantId };
}

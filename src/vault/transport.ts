// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { Agent, type AgentOptions, request as httpsRequest, type RequestOptions } from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import { KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';

/** How every vault is reached; the `[vault]` section of the configuration. */
export interface VaultTransport {
  /** PEM file whose authorities replace the system's for vaults. */
  readonly caFile?: string;
  /** False only for vaults outside the Azure domains. */
  readonly verifyChallengeResource: boolean;
  /** `http://[user:password@]host:port`; the environment's proxy variables are never read. */
  readonly proxy?: string;
  /** Limit of a call that names none, and of fetching a token. */
  readonly timeoutMs: number;
  /** REST API version; the SDK's default where it is not set. */
  readonly serviceVersion?: string;
}

/** Connections that one client keeps open at most; a client serves one key. */
const SOCKETS_MAX = 4;

/** Reads the CA file anew, so that a replaced file works without a restart. */
export async function readCa(caFile: string | undefined): Promise<string | undefined> {
  if (caFile === undefined) return undefined;
  try {
    return await readFile(caFile, 'utf8');
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_VAULT_CA_FILE,
      `cannot read ca_file ${JSON.stringify(caFile)}: ${messageOf(error)}`,
      { fields: { caFile } },
    );
  }
}

/**
 * An agent of our own for every client: its connections are nobody else's, so that a new client
 * means a new connection, and the SDK's look-up of proxy variables is bypassed.
 */
export function createAgent(options: {
  ca: string | undefined;
  proxy: string | undefined;
  timeoutMs: number;
  keepAlive: boolean;
}): Agent {
  const agentOptions: AgentOptions = {
    keepAlive: options.keepAlive,
    maxSockets: SOCKETS_MAX,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  };
  if (options.proxy === undefined) return new Agent(agentOptions);
  return new TunnelAgent(agentOptions, new URL(options.proxy), options.timeoutMs);
}

type SocketCallback = (error: Error | null, stream: Duplex) => void;

/** What Node's agent adds to the options of a connection. */
type TunnelTarget = RequestOptions & ConnectionOptions;

/** HTTPS through a proxy's CONNECT. The SDK's own proxy support drops the CA. */
class TunnelAgent extends Agent {
  readonly #proxy: URL;
  readonly #timeoutMs: number;

  constructor(options: AgentOptions, proxy: URL, timeoutMs: number) {
    super(options);
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
  }

  override createConnection(target: TunnelTarget, callback?: SocketCallback): undefined {
    const fail = (error: Error): void => callback?.(error, undefined as never);
    const host = target.host ?? '';
    const request = this.#connect(`${isIP(host) === 6 ? `[${host}]` : host}:${target.port ?? 443}`);
    request.once('error', fail);
    request.setTimeout(this.#timeoutMs, () => {
      request.destroy(proxyError('ETIMEDOUT', 'the proxy did not answer CONNECT'));
    });
    request.once('connect', (response: IncomingMessage, socket: Duplex) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        const status = response.statusCode ?? 0;
        fail(proxyError('EPROXY', `the proxy answered CONNECT with ${status}, expected 200`));
        return;
      }
      request.setTimeout(0);
      const servername = isIP(host) === 0 ? host : '';
      callback?.(null, tlsConnect({ ...target, socket, servername, path: undefined }));
    });
    request.end();
    return undefined;
  }

  #connect(authority: string): ClientRequest {
    const { protocol, hostname, port, username, password } = this.#proxy;
    const user = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    const authorization = `Basic ${Buffer.from(user).toString('base64')}`;
    const secure = protocol === 'https:';
    return (secure ? httpsRequest : httpRequest)({
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? (secure ? 443 : 80) : Number(port),
      method: 'CONNECT',
      path: authority,
      agent: false,
      headers: {
        host: authority,
        ...(username === '' ? {} : { 'proxy-authorization': authorization }),
      },
    });
  }
}

function proxyError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

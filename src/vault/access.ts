// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { CachingCredential } from './caching-credential.js';
import { type Classified, classify } from './classify.js';
import { type UnwrapOutcome, VaultKeyClient } from './client.js';
import { createCredential, type ResolvedIdentity, resolveIdentity } from './credential.js';
import { fetchKey } from './customer-key.js';
import { describeCredential } from './describe.js';
import { codes } from './errors.js';
import type { IdentityConfig } from './identity-config.js';
import { judge } from './judge.js';
import { parseKeyUrl, parseKid } from './key-url.js';
import type { VaultTransport } from './transport.js';
import type {
  Canary,
  CustomerKey,
  SecretPipe,
  SetKeyHandle,
  Verdict,
  VaultAccess,
} from './types.js';
import { type HelperCommand, UnwrapHelper } from './unwrap-helper.js';

export interface VaultAccessOptions {
  readonly identities: Readonly<Record<string, IdentityConfig>>;
  readonly transport: VaultTransport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly secretPipe: SecretPipe;
  readonly helperCommand: HelperCommand;
  /** systemd's $CREDENTIALS_DIRECTORY, for identities that name a `credential`. */
  readonly credentialsDirectory?: string;
}

export interface ClosableVaultAccess extends VaultAccess {
  /**
   * What comes from here on uses these; calls under way end as they began. Throws never: an
   * identity that cannot be used is found out by the call that uses it, as at the start.
   */
  reconfigure(config: Pick<VaultAccessOptions, 'identities' | 'transport'>): void;
  /** Ends helpers and closes connections; later calls come back without an answer. */
  close(): void;
}

/** A client that no probe has used for this long belongs to a set that is gone. */
const CLIENT_IDLE_MS = 10 * 60_000;

interface ProbeRequest {
  readonly identity: string;
  readonly kid: string;
  readonly canary: Canary;
  readonly fresh: boolean;
  readonly timeoutMs: number;
}

/** Key Vault as `sets` sees it: a client per identity and key version, tokens per identity. */
export function createVaultAccess(options: VaultAccessOptions): ClosableVaultAccess {
  return new SdkVaultAccess(options);
}

class SdkVaultAccess implements ClosableVaultAccess {
  #options: VaultAccessOptions;
  readonly #helper: UnwrapHelper;
  readonly #credentials = new Map<string, CachingCredential>();
  readonly #clients = new Map<string, { client: VaultKeyClient; usedBootMs: number }>();
  /** Of a config that is no longer in force; their last calls may be under way. */
  readonly #retired = new Set<VaultKeyClient>();
  #closed = false;

  constructor(options: VaultAccessOptions) {
    this.#options = options;
    const { secretPipe, helperCommand, clock } = options;
    this.#helper = new UnwrapHelper({ secretPipe, command: helperCommand, clock });
  }

  async fetchCustomerKey(request: {
    identity: string;
    url: string;
    allowPurgeable: boolean;
  }): Promise<CustomerKey> {
    const url = parseKeyUrl(request.url);
    const credential = this.#credential(request.identity);
    const { transport, clock } = this.#options;
    const { allowPurgeable } = request;
    return fetchKey({ url, allowPurgeable, credential, transport, clock });
  }

  async probe(request: ProbeRequest): Promise<Verdict> {
    const { clock } = this.#options;
    const startedBootMs = clock.bootMs();
    const found = await this.#probe(request);
    return { ...found, startedBootMs, durationMs: clock.bootMs() - startedBootMs };
  }

  async unwrapSetKey(request: {
    identity: string;
    kid: string;
    wrapped: Uint8Array;
    timeoutMs: number;
  }): Promise<{ key: SetKeyHandle; requestId: string | undefined }> {
    const { clock } = this.#options;
    const startedBootMs = clock.bootMs();
    const result = await this.#unwrapSetKey(request);
    if ('key' in result) return result;
    const durationMs = clock.bootMs() - startedBootMs;
    const verdict: Verdict = { ...result.verdict, startedBootMs, durationMs };
    const denied = verdict.kind === 'DENIED';
    const cause = `${verdict.message} (${verdict.code ?? verdict.class})`;
    throw new KeyholdError(
      denied ? codes.ERR_KEY_UNWRAP_DENIED : codes.ERR_KEY_UNWRAP_NO_ANSWER,
      `cannot unwrap the set key with ${request.kid}: ${cause}`,
      { fields: { kid: request.kid, verdict } },
    );
  }

  reconfigure(config: Pick<VaultAccessOptions, 'identities' | 'transport'>): void {
    // No call lasts longer than this.
    const limitMs = 2 * this.#options.transport.timeoutMs;
    const retired = [...this.#clients.values()].map(({ client }) => client);
    for (const client of retired) this.#retired.add(client);
    this.#clients.clear();
    this.#credentials.clear();
    this.#options = { ...this.#options, ...config };
    this.#options.clock.setTimer(limitMs, () => {
      for (const client of retired) if (this.#retired.delete(client)) client.close();
    });
  }

  close(): void {
    this.#closed = true;
    this.#helper.close();
    for (const { client } of this.#clients.values()) client.close();
    for (const client of this.#retired) client.close();
    this.#clients.clear();
    this.#retired.clear();
  }

  async #probe(request: ProbeRequest): Promise<Omit<Verdict, 'startedBootMs' | 'durationMs'>> {
    try {
      const outcome = await this.#unwrapCanary(request);
      const { receivedBootMs } = outcome;
      const times = receivedBootMs === undefined ? {} : { receivedBootMs };
      return { ...judge(outcome, request.canary.plaintext), ...times };
    } catch (error) {
      return misconfigured(error);
    }
  }

  async #unwrapCanary(request: ProbeRequest): Promise<UnwrapOutcome> {
    const { canary, timeoutMs } = request;
    if (!request.fresh) {
      return this.#client(request.identity, request.kid).unwrap(canary.wrapped, timeoutMs);
    }
    const client = this.#createClient(request.identity, request.kid);
    try {
      return await client.unwrap(canary.wrapped, timeoutMs);
    } finally {
      client.close();
    }
  }

  async #unwrapSetKey(request: {
    identity: string;
    kid: string;
    wrapped: Uint8Array;
    timeoutMs: number;
  }): ReturnType<UnwrapHelper['unwrap']> {
    try {
      return await this.#helper.unwrap({
        kid: parseKid(request.kid).id,
        wrapped: Buffer.from(request.wrapped).toString('base64'),
        identity: this.#identity(request.identity),
        transport: this.#options.transport,
        timeoutMs: request.timeoutMs,
      });
    } catch (error) {
      return { verdict: misconfigured(error) };
    }
  }

  #client(identity: string, kid: string): VaultKeyClient {
    const nowBootMs = this.#options.clock.bootMs();
    const name = JSON.stringify([identity, kid]);
    const held = this.#clients.get(name);
    if (held !== undefined) {
      held.usedBootMs = nowBootMs;
      return held.client;
    }
    for (const [other, { client, usedBootMs }] of this.#clients) {
      if (nowBootMs - usedBootMs < CLIENT_IDLE_MS) continue;
      client.close();
      this.#clients.delete(other);
    }
    const client = this.#createClient(identity, kid);
    this.#clients.set(name, { client, usedBootMs: nowBootMs });
    return client;
  }

  #createClient(identity: string, kid: string): VaultKeyClient {
    const { transport, clock } = this.#options;
    return new VaultKeyClient({ kid, credential: this.#credential(identity), transport, clock });
  }

  #credential(identity: string): CachingCredential {
    if (this.#closed) throw new KeyholdError(codes.ERR_VAULT_CLOSED, 'the daemon stops');
    const held = this.#credentials.get(identity);
    if (held !== undefined) return held;
    const { transport, clock, logger } = this.#options;
    this.#config(identity);
    const credential = new CachingCredential({
      create: async () => createCredential(this.#identity(identity), transport),
      clock,
      limitMs: transport.timeoutMs,
      onFailure: (error) => {
        const verdict = classify({ credential: describeCredential(error.cause, clock.nowMs()) });
        const { class: verdictClass, code, message } = verdict;
        logger.warn({ identity, class: verdictClass, code, cause: message }, 'no token');
      },
    });
    this.#credentials.set(identity, credential);
    return credential;
  }

  #identity(name: string): ResolvedIdentity {
    return resolveIdentity(this.#config(name), this.#options.credentialsDirectory);
  }

  #config(name: string): IdentityConfig {
    const { identities } = this.#options;
    const config = Object.hasOwn(identities, name) ? identities[name] : undefined;
    if (config !== undefined) return config;
    const known = Object.keys(identities).join(', ') || 'none';
    throw new KeyholdError(
      codes.ERR_VAULT_IDENTITY,
      `cannot use identity ${JSON.stringify(name)}: the configuration has ${known}`,
      { fields: { expected: Object.keys(identities), actual: name } },
    );
  }
}

/** Trouble of our own making: nobody answered, and an operator should know. */
function misconfigured(error: unknown): Classified {
  const code = error instanceof KeyholdError ? error.code : 'Unexpected';
  const message = code === 'Unexpected' ? 'unexpected failure' : messageOf(error);
  return { ...classify({ message }), code };
}

// SPDX-License-Identifier: Apache-2.0
import { CryptographyClient, type CryptographyClientOptions } from '@azure/keyvault-keys';
import type { Agent } from 'node:https';
import type { Clock } from '../base/clock.js';
import type { CachingCredential } from './caching-credential.js';
import {
  type Capture,
  type CapturedAnswer,
  capturePolicy,
  createCapture,
  runCaptured,
} from './capture.js';
import { classify, type Description } from './classify.js';
import { describeAnswer, describeFailure } from './describe.js';
import { isSameKey, type KeyUrl, parseKid } from './key-url.js';
import { LimitExceeded, withLimit } from './limit.js';
import { createAgent, readCa, type VaultTransport } from './transport.js';

/** After this many calls in a row without an answer client and connections are replaced. */
const NO_ANSWER_MAX = 3;

/** RSA-OAEP-256 is the only algorithm that Keyhold writes or reads. */
const ALGORITHM = 'RSA-OAEP-256';

/** What one unwrap came to. `plaintext` is there only after a 200 that stands every check. */
export interface UnwrapOutcome {
  readonly plaintext: Uint8Array | undefined;
  readonly description: Description;
  /** When the answer that is described had arrived; CLOCK_BOOTTIME ms. */
  readonly receivedBootMs?: number;
}

export interface VaultKeyClientOptions {
  readonly kid: string;
  readonly credential: CachingCredential;
  readonly transport: VaultTransport;
  readonly clock: Clock;
}

/** An SDK client with connections of its own. */
interface Connection {
  readonly sdk: CryptographyClient;
  readonly agent: Agent;
  /** The authentication challenge is done; calls may run side by side. */
  ready: boolean;
  calls: number;
  retired: boolean;
}

/**
 * Unwraps with one key version. Every call is remote, bounded in time, sent once (the caller
 * schedules repetitions) and never rejects: whatever happens ends up in the description.
 */
export class VaultKeyClient {
  readonly #key: KeyUrl & { readonly version: string };
  readonly #options: VaultKeyClientOptions;
  #connection: Connection | undefined;
  #noAnswers = 0;
  /** Tail of the calls that wait for the challenge to be completed. */
  #gate: Promise<void> = Promise.resolve();

  constructor(options: VaultKeyClientOptions) {
    this.#key = parseKid(options.kid);
    this.#options = options;
  }

  async unwrap(wrapped: Uint8Array, timeoutMs: number): Promise<UnwrapOutcome> {
    const { clock, credential } = this.#options;
    const deadlineBootMs = clock.bootMs() + timeoutMs;
    let outcome = await this.#unwrapInTurn(wrapped, deadlineBootMs);
    if (outcome.description.httpStatus === 401 && credential.renewAfterRejection()) {
      // The SDK client goes on sending the token that it was refused with.
      this.#retire();
      outcome = await this.#unwrapInTurn(wrapped, deadlineBootMs);
    }
    if (classify(outcome.description).kind !== 'NO-ANSWER' || outcome.plaintext !== undefined) {
      this.#noAnswers = 0;
    } else {
      this.#noAnswers += 1;
      if (this.#noAnswers % NO_ANSWER_MAX === 0) this.#retire();
    }
    return outcome;
  }

  /** Closes the connections; calls under way end as they would. */
  close(): void {
    this.#retire();
  }

  /**
   * Until the challenge is completed one call runs at a time: of two first requests on one SDK
   * client, one loses its body and the other sends its wrapped value unauthenticated.
   */
  async #unwrapInTurn(wrapped: Uint8Array, deadlineBootMs: number): Promise<UnwrapOutcome> {
    if (this.#isReady()) return this.#attempt(wrapped, deadlineBootMs);
    const before = this.#gate;
    let release = (): void => undefined;
    this.#gate = new Promise((resolve) => {
      release = resolve;
    });
    try {
      await this.#waitTurn(before, deadlineBootMs);
    } catch (error) {
      // Whoever waits behind must still wait for those in front.
      void before.then(release);
      return this.#failed(error, undefined);
    }
    if (this.#isReady()) {
      release();
      return this.#attempt(wrapped, deadlineBootMs);
    }
    try {
      return await this.#attempt(wrapped, deadlineBootMs);
    } finally {
      // A client whose challenge was not completed would send the next value unauthenticated.
      if (!this.#isReady()) this.#retire();
      release();
    }
  }

  #isReady(): boolean {
    return this.#connection?.ready ?? false;
  }

  async #waitTurn(before: Promise<void>, deadlineBootMs: number): Promise<void> {
    const { clock } = this.#options;
    const limitMs = deadlineBootMs - clock.bootMs();
    await withLimit(before, { clock, operation: 'waiting for the first unwrap', limitMs });
  }

  async #attempt(wrapped: Uint8Array, deadlineBootMs: number): Promise<UnwrapOutcome> {
    const { clock } = this.#options;
    const capture = createCapture(clock);
    let connection: Connection | undefined;
    try {
      connection = await this.#connect();
      connection.calls += 1;
      const limitMs = deadlineBootMs - clock.bootMs();
      if (limitMs <= 0) throw new LimitExceeded('unwrapping', limitMs);
      const value = await this.#call(connection.sdk, wrapped, limitMs, capture);
      return withTime(this.#answered(value, capture.answer), capture);
    } catch (error) {
      return withTime(this.#failed(error, capture.answer), capture);
    } finally {
      if (connection !== undefined) this.#callEnded(connection, capture.answer);
    }
  }

  async #call(
    sdk: CryptographyClient,
    wrapped: Uint8Array,
    limitMs: number,
    capture: Capture,
  ): Promise<Uint8Array | undefined> {
    const abort = new AbortController();
    // The SDK's timeout ends with the headers, its signal covers the body, and neither ends a
    // hanging token endpoint: hence the third limit around both.
    const call = runCaptured(capture, () =>
      sdk.unwrapKey(ALGORITHM, wrapped, {
        abortSignal: abort.signal,
        requestOptions: { timeout: Math.ceil(limitMs) },
      }),
    );
    const result = await withLimit(call, {
      clock: this.#options.clock,
      operation: 'unwrapping',
      limitMs,
      onLimit: () => abort.abort(),
    });
    return result.result;
  }

  #answered(value: Uint8Array | undefined, answer: CapturedAnswer | undefined): UnwrapOutcome {
    if (answer === undefined) return { plaintext: undefined, description: {} };
    const description = describeAnswer(answer, this.#options.clock.nowMs());
    if (value === undefined || value.length === 0) {
      return { plaintext: undefined, description: { ...description, unusable: 'NoValue' } };
    }
    if (!isSameKey(answer.kid, this.#key)) {
      value.fill(0);
      const answered = answer.kid ?? 'without id';
      const message = `the answer is for key ${answered}, asked for ${this.#key.id}`;
      return {
        plaintext: undefined,
        description: { ...description, unusable: 'KidMismatch', message },
      };
    }
    return { plaintext: value, description };
  }

  #failed(error: unknown, answer: CapturedAnswer | undefined): UnwrapOutcome {
    const description = describeFailure(error, answer, this.#options.clock.nowMs());
    return { plaintext: undefined, description };
  }

  async #connect(): Promise<Connection> {
    if (this.#connection !== undefined) return this.#connection;
    const { credential, transport } = this.#options;
    const { agent, options } = await createSdkOptions(transport, true);
    // Without key material, and with an object instead of an id, the SDK neither unwraps locally,
    // nor fetches the key first, nor checks its dates by the local clock.
    const bareKey = {
      id: this.#key.id,
      name: this.#key.name,
      properties: { name: this.#key.name, vaultUrl: this.#key.vaultUrl },
    };
    const sdk = new CryptographyClient(bareKey, credential, options);
    this.#connection = { sdk, agent, ready: false, calls: 0, retired: false };
    return this.#connection;
  }

  #callEnded(connection: Connection, answer: CapturedAnswer | undefined): void {
    if (answer?.authorized === true && answer.status !== 401) connection.ready = true;
    connection.calls -= 1;
    if (connection.retired && connection.calls === 0) connection.agent.destroy();
  }

  #retire(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    this.#connection = undefined;
    connection.retired = true;
    if (connection.calls === 0) connection.agent.destroy();
  }
}

function withTime(outcome: UnwrapOutcome, { receivedBootMs }: Capture): UnwrapOutcome {
  return receivedBootMs === undefined ? outcome : { ...outcome, receivedBootMs };
}

/** Options that every SDK client here gets, with an agent of its own. */
export async function createSdkOptions(
  transport: VaultTransport,
  keepAlive: boolean,
): Promise<{ agent: Agent; options: CryptographyClientOptions }> {
  const agent = createAgent({
    ca: await readCa(transport.caFile),
    proxy: transport.proxy,
    timeoutMs: transport.timeoutMs,
    keepAlive,
  });
  const options: CryptographyClientOptions = {
    agent,
    additionalPolicies: [{ policy: capturePolicy, position: 'perRetry' }],
    retryOptions: { maxRetries: 0 },
    // Nobody redirects Key Vault; whoever does is not given the wrapped value.
    redirectOptions: { maxRetries: 0 },
    disableChallengeResourceVerification: !transport.verifyChallengeResource,
    ...(transport.serviceVersion === undefined ? {} : { serviceVersion: transport.serviceVersion }),
  };
  return { agent, options };
}

// SPDX-License-Identifier: Apache-2.0

/**
 * What a customer key's probe found, before policy (reference/keyvault.md section 4):
 *
 *   proof               200 and the canary's plaintext matched
 *   denied-certain      KeyDisabled, KeyOperationForbidden, KeyNotFound from a genuine vault
 *   denied-propagating  AccessDenied, ForbiddenByPolicy, ForbiddenByRbac, an unknown genuine 403
 *   denied-identity     the identity itself is gone or its secret is bad
 *   denied-network      the vault's firewall or private link refuses us
 *   no-answer           nothing that a vault said
 *   ambiguous           401 after a fresh token, 400, challenge mismatch: no-answer, plus an alarm
 *   integrity           200, but the plaintext is not the canary
 */
export type VerdictClass =
  | 'proof'
  | 'denied-certain'
  | 'denied-propagating'
  | 'denied-identity'
  | 'denied-network'
  | 'no-answer'
  | 'ambiguous'
  | 'integrity';

/** Why a disk goes offline on a denial; a subset of the reasons of DESIGN.md section 2. */
export type DenialReason =
  | 'key-disabled'
  | 'key-deleted'
  | 'access-denied'
  | 'identity-denied'
  | 'key-expired'
  | 'integrity';

/** One classified answer, or the lack of one. Holds facts only; never a token, never key bytes. */
export interface Verdict {
  readonly kind: 'PROOF' | 'DENIED' | 'NO-ANSWER';
  readonly class: VerdictClass;
  /** Set exactly when `kind` is DENIED. */
  readonly reason?: DenialReason;
  /** CLOCK_BOOTTIME ms at which the probe started: what a lease is renewed from. */
  readonly startedBootMs: number;
  readonly durationMs: number;
  /** CLOCK_BOOTTIME ms at which the vault's answer had arrived; undefined without one. */
  readonly receivedBootMs?: number;
  /** HTTP status, where there was an answer. */
  readonly httpStatus?: number;
  /** The vault's inner code (`KeyDisabled`), else its code, else an errno or `TIMEOUT`. */
  readonly code?: string;
  /** For people; control characters stripped, at most 500 characters. */
  readonly message: string;
  /** `x-ms-request-id`. */
  readonly requestId?: string;
  /** Retry-After, already capped at 60 s. */
  readonly retryAfterMs?: number;
}

/** The public half of a customer key, as the vault's GET describes it. */
export interface CustomerKey {
  /** Versioned key id: `https://vault/keys/name/version`. */
  readonly kid: string;
  readonly name: string;
  readonly version: string;
  /** Big-endian, without leading zero bytes. */
  readonly modulus: Uint8Array;
  readonly exponent: Uint8Array;
  readonly sizeBits: number;
  /** Whether it lies in an HSM, where the vault answers less often; undefined if unknown. */
  readonly hsm?: boolean;
  readonly recoveryLevel: string;
  /** Milliseconds since the epoch; undefined when the key never expires. */
  readonly expiresOnMs?: number;
}

/** Random bytes that are worth nothing, wrapped by a customer key (RSA-OAEP-256). */
export interface Canary {
  readonly plaintext: Uint8Array;
  readonly wrapped: Uint8Array;
}

/** A set key in native memory. JavaScript holds the handle and never a byte of it. */
export interface SetKeyHandle {
  readonly wiped: boolean;
  wipe(): void;
}

/** The pipe through which a set key reaches native memory without passing JavaScript. */
export interface SecretPipe {
  createPipe(): { readFd: number; writeFd: number };
  closeFd(fd: number): void;
  /** Reads 32 bytes and end-of-file into secret memory; closes `readFd` in every case. */
  receiveSetKey(readFd: number, timeoutMs: number): Promise<SetKeyHandle>;
}

/** Leave to send one probe, out of the vault's budget. Good once. */
export interface ProbeTurn {
  readonly kind: 'probe-turn';
}

/** Everything that `sets` needs of Key Vault. */
export interface VaultAccess {
  /**
   * Waits until the budget of the key's vault has room for one more probe, and not longer than
   * until `latestBootMs`; `urgent`, the confirmation of a denial, goes before other probes. The
   * wait is kept out of `probe`, so that neither the limit of the answer nor the lease's time
   * begins with it. Never throws. An access without a budget has no such method.
   */
  probeTurn?(request: {
    kid: string;
    wrapped: Uint8Array;
    urgent: boolean;
    latestBootMs?: number | undefined;
  }): Promise<ProbeTurn>;

  /**
   * Reads the key at a versioned or versionless URL and checks that it may serve as a customer key:
   * RSA or RSA-HSM, 2048/3072/4096 bits, wrapKey and unwrapKey among its operations, enabled, and a
   * recovery level without "Purgeable" unless `allowPurgeable`. Changes nothing.
   */
  fetchCustomerKey(request: {
    identity: string;
    url: string;
    allowPurgeable: boolean;
  }): Promise<CustomerKey>;

  /**
   * One remote unwrap of the canary; never throws. `fresh`: on a new connection with a new client
   * (confirmation of a denial).
   */
  probe(request: {
    identity: string;
    kid: string;
    canary: Canary;
    fresh: boolean;
    timeoutMs: number;
    /** Where there is none, the probe waits for one by itself. */
    turn?: ProbeTurn | undefined;
  }): Promise<Verdict>;

  /**
   * Unwraps a set key in a one-shot child into native memory. Throws KeyholdError with code
   * ERR_KEY_UNWRAP_DENIED or ERR_KEY_UNWRAP_NO_ANSWER and the Verdict in `fields.verdict`.
   */
  unwrapSetKey(request: {
    identity: string;
    kid: string;
    wrapped: Uint8Array;
    timeoutMs: number;
  }): Promise<{ key: SetKeyHandle; requestId: string | undefined }>;
}

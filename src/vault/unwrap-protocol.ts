// SPDX-License-Identifier: Apache-2.0
import type { Classified } from './classify.js';
import type { ResolvedIdentity } from './credential.js';
import type { VaultTransport } from './transport.js';

/**
 * What the daemon writes to the unwrap helper's standard input, as one JSON document. It names
 * secrets by file and holds none; the plaintext goes the other way, through descriptor 3 alone.
 */
export interface UnwrapRequest {
  readonly kid: string;
  /** base64 */
  readonly wrapped: string;
  readonly identity: ResolvedIdentity;
  readonly transport: VaultTransport;
  /** Counted from the helper's start. */
  readonly timeoutMs: number;
}

/** What the helper writes to its standard output, as one JSON line. */
export type UnwrapAnswer =
  | { readonly ok: true; readonly requestId?: string }
  | { readonly ok: false; readonly verdict: Classified };

/** The pipe's write end in the helper; 0 to 2 are the standard streams. */
export const SECRET_FD = 3;

/** A set key: AES-256. */
export const SET_KEY_BYTES = 32;

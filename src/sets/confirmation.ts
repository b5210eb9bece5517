// SPDX-License-Identifier: Apache-2.0
import type { Verdict } from '../vault/types.js';

/*
 * When is a denial believed? (docs/LIFECYCLE.md section 1; the reasons are in Key Vault's
 * behaviour: disable and delete act per request, role assignments flap while they propagate.)
 *
 *   clear ──denial──▶ suspected ──enough denials──▶ confirmed
 *     ▲                   │                             │
 *     └───────PROOF───────┴─────────────PROOF───────────┘
 */

/**
 * After a certain denial: how soon to ask again when the confirming probe got no answer, how often.
 */
export const CERTAIN_RETRY_MS = 250;
export const CERTAIN_RETRIES_MAX = 10;

/** Propagating denials in a row, and the time between the first and the last of them. */
export const PROPAGATING_DENIALS_MIN = 3;
export const PROPAGATING_SPREAD_MS = 5000;

/** A timer may fire a millisecond early, and a fourth probe is not worth that. */
export const PROPAGATING_SPACING_MS = PROPAGATING_SPREAD_MS / 2 + 10;

/**
 * `conditional` is the loss of the identity itself, or the vault's firewall: confirmed like a
 * propagating denial, but whether it counts is for whoever holds the lease to say, as the vault
 * reports it as NO-ANSWER.
 */
export type Evidence = 'certain' | 'propagating' | 'conditional';

export interface Suspicion {
  readonly kind: 'suspected';
  readonly evidence: Evidence;
  /** Denials since the first that counts for this evidence. */
  readonly denials: number;
  /** NO-ANSWERs since the last denial. */
  readonly noAnswers: number;
  readonly firstStartedBootMs: number;
  readonly firstSeenMs: number;
}

export type Confirmation =
  | { readonly kind: 'clear' }
  | Suspicion
  | { readonly kind: 'confirmed'; readonly evidence: Evidence; readonly firstSeenMs: number };

export interface ConfirmationStep {
  readonly confirmation: Confirmation;
  /** When to ask again, on a fresh connection; undefined: in the usual rhythm. */
  readonly recheckMs: number | undefined;
}

export const CLEAR: Confirmation = { kind: 'clear' };

/** What one more verdict, seen at wall time `nowMs`, makes of the suspicion. */
export function observe(
  confirmation: Confirmation,
  verdict: Verdict,
  nowMs: number,
): ConfirmationStep {
  if (verdict.kind === 'PROOF') return { confirmation: CLEAR, recheckMs: undefined };
  const evidence = evidenceOf(verdict);
  const known = confirmation.kind === 'clear' ? undefined : confirmation.evidence;
  // What is conditional says nothing for or against a denial that the vault itself uttered.
  const counts =
    evidence !== undefined &&
    (evidence !== 'conditional' || (known ?? 'conditional') === 'conditional');
  if (!counts) return withoutAnswer(confirmation);
  if (
    confirmation.kind === 'confirmed' &&
    (known !== 'conditional' || evidence === 'conditional')
  ) {
    return { confirmation, recheckMs: undefined };
  }
  return denied(confirmation, { evidence, startedBootMs: verdict.startedBootMs, nowMs });
}

function denied(
  confirmation: Confirmation,
  seen: { evidence: Evidence; startedBootMs: number; nowMs: number },
): ConfirmationStep {
  const suspicion = grow(confirmation.kind === 'suspected' ? confirmation : undefined, seen);
  const { evidence, denials, firstSeenMs } = suspicion;
  const spreadMs = seen.startedBootMs - suspicion.firstStartedBootMs;
  const enough =
    evidence === 'certain'
      ? denials >= 2
      : denials >= PROPAGATING_DENIALS_MIN && spreadMs >= PROPAGATING_SPREAD_MS;
  if (enough) {
    return { confirmation: { kind: 'confirmed', evidence, firstSeenMs }, recheckMs: undefined };
  }
  const recheckMs = evidence === 'certain' ? 0 : PROPAGATING_SPACING_MS;
  return { confirmation: suspicion, recheckMs };
}

/** Stronger evidence starts the count anew; the time first seen stays. */
function grow(
  suspicion: Suspicion | undefined,
  seen: { evidence: Evidence; startedBootMs: number; nowMs: number },
): Suspicion {
  const firstSeenMs = suspicion?.firstSeenMs ?? seen.nowMs;
  const starts =
    suspicion === undefined ||
    (suspicion.evidence !== 'certain' && suspicion.evidence !== seen.evidence);
  if (starts) {
    return {
      kind: 'suspected',
      evidence: seen.evidence,
      denials: 1,
      noAnswers: 0,
      firstStartedBootMs: seen.startedBootMs,
      firstSeenMs,
    };
  }
  return { ...suspicion, denials: suspicion.denials + 1, noAnswers: 0 };
}

function withoutAnswer(confirmation: Confirmation): ConfirmationStep {
  if (confirmation.kind !== 'suspected') return { confirmation, recheckMs: undefined };
  const noAnswers = confirmation.noAnswers + 1;
  const next = { ...confirmation, noAnswers };
  if (confirmation.evidence !== 'certain') {
    return { confirmation: next, recheckMs: PROPAGATING_SPACING_MS };
  }
  const recheckMs = noAnswers <= CERTAIN_RETRIES_MAX ? CERTAIN_RETRY_MS : undefined;
  return { confirmation: next, recheckMs };
}

function evidenceOf(verdict: Verdict): Evidence | undefined {
  switch (verdict.class) {
    case 'denied-certain':
    case 'integrity':
      return 'certain';
    case 'denied-propagating':
      return 'propagating';
    case 'denied-identity':
    case 'denied-network':
      return verdict.kind === 'DENIED' ? 'propagating' : 'conditional';
    case 'proof':
    case 'no-answer':
    case 'ambiguous':
      return undefined;
  }
}

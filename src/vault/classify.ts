// SPDX-License-Identifier: Apache-2.0
import { classifyCredential } from './classify-credential.js';
import type { DenialReason, Verdict, VerdictClass } from './types.js';

/** What the credential said instead of handing over a token. */
export interface CredentialFailure {
  /** Entra ID's numbers (`7000215`), from its answer or out of its message. */
  readonly aadsts: readonly string[];
  /** OAuth's `error` (`invalid_client`), MSAL's code, or IMDS's `error`. */
  readonly oauthError?: string;
  /** Status of the token endpoint or of IMDS; never the vault's. */
  readonly httpStatus?: number;
  /** An errno from reading a secret file or from the network. */
  readonly errno?: string;
  readonly message: string;
  readonly timedOut: boolean;
  readonly retryAfterMs?: number;
}

/**
 * What happened on one call, as plain data: either somebody answered (`httpStatus`), or the
 * credential failed, or the transport did. Built by describe.ts; no secret is ever in it.
 */
export interface Description {
  readonly httpStatus?: number;
  /** Lower-case names. */
  readonly headers?: Readonly<Record<string, string>>;
  /** False for an HTML page, an empty body or anything else that is no JSON object. */
  readonly jsonBody?: boolean;
  /** `error.code` of the body. */
  readonly errorCode?: string;
  /** Codes of `error.innererror`, outermost first. */
  readonly innerCodes?: readonly string[];
  readonly message?: string;
  readonly errno?: string;
  readonly credential?: CredentialFailure;
  readonly timedOut?: boolean;
  /** The SDK refused the vault's authentication challenge. */
  readonly challengeRefused?: boolean;
  /** The SDK's own clock check said no; only a client that knows the key's dates does that. */
  readonly keyExpired?: boolean;
  /** Set after a 200 that carried a value for the kid that was asked. */
  readonly canaryMatched?: boolean;
  /** A 200 that cannot be used: `NoValue`, `KidMismatch`, `BadValue`. */
  readonly unusable?: string;
  readonly retryAfterMs?: number;
}

/** A verdict without the times, which only the caller knows. */
export type Classified = Omit<Verdict, 'startedBootMs' | 'durationMs' | 'receivedBootMs'>;

/** A class with the code that goes into the verdict. */
export interface Finding {
  readonly class: VerdictClass;
  readonly code: string;
}

/** The longest wait that a Retry-After can impose: nobody outside may stop probing for long. */
export const RETRY_AFTER_MAX_MS = 60_000;

const MESSAGE_CHARACTERS_MAX = 500;

/** Inner codes that a genuine 403 may carry, and what each means. */
const FORBIDDEN: Readonly<Record<string, VerdictClass>> = {
  KeyDisabled: 'denied-certain',
  KeyOperationForbidden: 'denied-certain',
  AccessDenied: 'denied-propagating',
  ForbiddenByPolicy: 'denied-propagating',
  ForbiddenByRbac: 'denied-propagating',
  ForbiddenByFirewall: 'denied-network',
  ForbiddenByConnection: 'denied-network',
};

/** A firewall's refusal whose inner code was lost still says so. */
const NETWORK_MESSAGE = /client address is not authorized|not an approved private link/i;

/** Turns what happened into a verdict. Pure; every row of the error catalogue is a test of it. */
export function classify(description: Description): Classified {
  const finding = find(description);
  const requestId = description.headers?.['x-ms-request-id'];
  const retryAfterMs = description.retryAfterMs ?? description.credential?.retryAfterMs;
  const kind = kindOf(finding.class);
  const reason = kind === 'DENIED' ? reasonFor(finding.class, finding.code) : undefined;
  return {
    kind,
    class: finding.class,
    message: messageFor(description, finding),
    ...(finding.class === 'proof' ? {} : { code: finding.code }),
    ...(reason === undefined ? {} : { reason }),
    ...(description.httpStatus === undefined ? {} : { httpStatus: description.httpStatus }),
    ...(requestId === undefined ? {} : { requestId: cleanText(requestId).slice(0, 64) }),
    ...(retryAfterMs === undefined
      ? {}
      : { retryAfterMs: Math.min(Math.max(0, retryAfterMs), RETRY_AFTER_MAX_MS) }),
  };
}

/**
 * The default policy: only a denial that a vault uttered about the key, or a wrong plaintext, ends
 * a lease. A lost identity and a firewall may be accidents: they run the lease out, with an alarm.
 */
export function kindOf(verdictClass: VerdictClass): Verdict['kind'] {
  switch (verdictClass) {
    case 'proof':
      return 'PROOF';
    case 'denied-certain':
    case 'denied-propagating':
    case 'integrity':
      return 'DENIED';
    case 'denied-identity':
    case 'denied-network':
    case 'no-answer':
    case 'ambiguous':
      return 'NO-ANSWER';
  }
}

/**
 * The reason a disk shows when a class is taken as a denial. It answers for identity and network
 * too, for policies that count those as denials although `kindOf` does not.
 */
export function reasonFor(verdictClass: VerdictClass, code?: string): DenialReason | undefined {
  switch (verdictClass) {
    case 'denied-certain':
      if (code === 'KeyDisabled') return 'key-disabled';
      if (code === 'KeyNotFound') return 'key-deleted';
      if (code === 'KeyExpired') return 'key-expired';
      return 'access-denied';
    case 'denied-propagating':
    case 'denied-network':
      return 'access-denied';
    case 'denied-identity':
      return 'identity-denied';
    case 'integrity':
      return 'integrity';
    case 'proof':
    case 'no-answer':
    case 'ambiguous':
      return undefined;
  }
}

/**
 * True for an answer that Key Vault's front end stamped. A proxy or a captive portal that says 403
 * or 404 differs from the vault by nothing else, and must not take a disk offline.
 */
export function isGenuine(headers: Readonly<Record<string, string>> | undefined): boolean {
  return Object.keys(headers ?? {}).some((name) => name.startsWith('x-ms-keyvault-'));
}

/** One line of at most 500 characters without control characters or anything like a token. */
export function cleanText(text: string): string {
  return text
    .replace(/eyJ[\w-]+\.[\w-]+\.?[\w-]*/g, '[token]')
    .replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
    .trim()
    .slice(0, MESSAGE_CHARACTERS_MAX);
}

function find(description: Description): Finding {
  if (description.credential !== undefined) return classifyCredential(description.credential);
  if (description.timedOut === true) return { class: 'no-answer', code: 'TIMEOUT' };
  if (description.challengeRefused === true) {
    return { class: 'ambiguous', code: 'ChallengeMismatch' };
  }
  if (description.keyExpired === true) return { class: 'denied-certain', code: 'KeyExpired' };
  if (description.httpStatus !== undefined) return findAnswer(description, description.httpStatus);
  if (description.errno !== undefined) return { class: 'no-answer', code: description.errno };
  return { class: 'ambiguous', code: 'Unexpected' };
}

function findAnswer(description: Description, status: number): Finding {
  const code = lastCode(description) ?? `HTTP${status}`;
  if (status === 200) return findSuccess(description);
  const transient = status === 408 || status === 429 || status >= 500;
  if (transient || !isGenuine(description.headers)) return { class: 'no-answer', code };
  switch (status) {
    case 403:
      return findForbidden(description, code);
    case 404:
      return description.errorCode === 'KeyNotFound'
        ? { class: 'denied-certain', code: 'KeyNotFound' }
        : { class: 'ambiguous', code };
    default:
      // 400, 401 after a fresh token, 409 while a key is recovered, and whatever comes next.
      return { class: status >= 400 ? 'ambiguous' : 'no-answer', code };
  }
}

function findSuccess(description: Description): Finding {
  const genuine = isGenuine(description.headers);
  if (description.canaryMatched === true) return { class: 'proof', code: '' };
  if (description.jsonBody !== true) return { class: 'no-answer', code: 'NoJson' };
  if (!genuine) return { class: 'no-answer', code: 'NotFromVault' };
  if (description.canaryMatched === false) return { class: 'integrity', code: 'CanaryMismatch' };
  return { class: 'ambiguous', code: description.unusable ?? 'NoValue' };
}

function findForbidden(description: Description, fallbackCode: string): Finding {
  const codes = [...(description.innerCodes ?? []), description.errorCode ?? ''];
  for (const code of codes) {
    const known = Object.hasOwn(FORBIDDEN, code) ? FORBIDDEN[code] : undefined;
    if (known !== undefined) return { class: known, code };
  }
  if (NETWORK_MESSAGE.test(description.message ?? '')) {
    return { class: 'denied-network', code: fallbackCode };
  }
  return { class: 'denied-propagating', code: fallbackCode };
}

/** The innermost code says most; `error.code` is mostly just `Forbidden`. */
function lastCode(description: Description): string | undefined {
  const code = description.innerCodes?.at(-1) ?? description.errorCode;
  return code === undefined ? undefined : cleanText(code).slice(0, 100);
}

function messageFor(description: Description, finding: Finding): string {
  if (finding.class === 'proof') return 'the vault unwrapped the canary';
  const said = cleanText(description.credential?.message ?? description.message ?? '');
  if (said !== '') return said;
  if (finding.class === 'integrity') return 'the unwrapped plaintext is not the canary';
  if (description.timedOut === true) return 'no answer within the time limit';
  if (description.httpStatus !== undefined) {
    return `answered ${description.httpStatus} (${finding.code})`;
  }
  return finding.code;
}

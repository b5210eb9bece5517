// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import type { Verdict } from '../vault/types.js';
import type { Alarm, Denial, SetAccess, SetIdentity } from './access.js';
import { codes } from './errors.js';
import type { KeyState } from './policy.js';
import type { SetKeyRecord, StandingDenial } from './record.js';

/** A verdict as a denial that disks show. */
export function denialOf(
  { kid, keyVersion }: SetKeyRecord,
  facts: { verdict: Verdict; firstSeenMs: number; confirmedBootMs: number },
): Denial {
  const { verdict } = facts;
  const implied = verdict.class === 'denied-network' ? 'access-denied' : 'identity-denied';
  return { ...facts, kid, keyVersion, reason: verdict.reason ?? implied };
}

/** What the vault never says: a key goes on unwrapping after its date. */
export function expiredVerdict(key: SetKeyRecord, last: Verdict | undefined): Verdict {
  return {
    kind: 'DENIED',
    class: 'denied-certain',
    reason: 'key-expired',
    code: 'KeyExpired',
    message: `the key expired at ${key.expiresAt}, and the set is to go offline then`,
    startedBootMs: last?.startedBootMs ?? 0,
    durationMs: 0,
  };
}

/** A denial from the record, as if it had just been seen again. */
export function standingState(denial: StandingDenial): KeyState {
  const { reason, code, message, requestId, firstSeenAt } = denial;
  return {
    verdict: {
      kind: 'DENIED',
      class: 'denied-certain',
      reason,
      message,
      startedBootMs: 0,
      durationMs: 0,
      ...(code === null ? {} : { code }),
      ...(requestId === null ? {} : { requestId }),
    },
    sinceMs: Date.parse(firstSeenAt),
    denied: denial.confirmed,
    suspect: true,
  };
}

export function standingDenials(
  keys: ReadonlyArray<KeyState & { readonly key: SetKeyRecord }>,
  nowMs: number,
): StandingDenial[] {
  return keys
    .filter(({ denied, suspect }) => denied || suspect)
    .map(({ key, verdict, sinceMs, denied: confirmed }) => ({
      kid: key.kid,
      confirmed,
      reason: verdict?.reason ?? 'access-denied',
      code: verdict?.code ?? null,
      message: verdict?.message ?? '',
      requestId: verdict?.requestId ?? null,
      firstSeenAt: new Date(sinceMs ?? nowMs).toISOString(),
    }));
}

/** Why the set key may not be used. */
export function refusedAccess(
  set: SetIdentity,
  access: Exclude<SetAccess, { kind: 'granted' }>,
  alarm: Alarm | undefined,
): KeyholdError {
  const what = `using the key of encryption set ${set.name}`;
  if (access.kind === 'denied') {
    const { reason, keyVersion, verdict } = access.denial;
    return new KeyholdError(codes.ERR_SET_DENIED, `${what}: ${reason}: ${verdict.message}`, {
      fields: { set: set.name, reason, keyVersion, requestId: verdict.requestId },
    });
  }
  const last = alarm === undefined ? '' : ` (${alarm.message})`;
  const why =
    access.kind === 'lapsed'
      ? 'the lease has ended without an answer from the vault'
      : 'the vault has not proved access yet';
  return new KeyholdError(codes.ERR_SET_LAPSED, `${what}: ${why}${last}`, {
    fields: { set: set.name, access: access.kind },
  });
}

export function purgedError(set: string): KeyholdError {
  return new KeyholdError(
    codes.ERR_SET_PURGED,
    `using the key of encryption set ${set}: it was purged`,
    { fields: { set } },
  );
}

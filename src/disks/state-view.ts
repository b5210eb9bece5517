// SPDX-License-Identifier: Apache-2.0
import { assertNever, KeyholdError, messageOf } from '../base/errors.js';
import type { EncryptionSet } from '../sets/encryption-set.js';
import { codes } from './errors.js';
import type { DiskCause, DiskStateView } from './events.js';
import type { DiskControl, Effect, LifecycleEvent } from './control.js';
import { isKeyReason } from './lifecycle.js';

/** What a disk shows; `requestId` is that of the PROOF which brought it online. */
export function viewState(
  { phase }: DiskControl,
  { set, requestId }: { set: EncryptionSet | undefined; requestId: string | null },
): DiskStateView {
  const keyVersion = set?.record.keys.find(({ role }) => role === 'current')?.keyVersion ?? null;
  switch (phase.kind) {
    case 'offline':
      return {
        ...phase.facts,
        state: 'offline',
        revoked: false,
        keyVersion: phase.facts.keyVersion ?? keyVersion,
      };
    case 'online':
      return {
        state: 'online',
        reason: null,
        revoked: phase.revoked !== null,
        sinceMs: phase.sinceMs,
        keyVersion: phase.revoked?.keyVersion ?? keyVersion,
        vaultRequestId: phase.revoked?.vaultRequestId ?? requestId,
        message: phase.revoked?.message ?? null,
      };
    case 'suspended':
      return {
        state: 'suspended',
        reason: null,
        revoked: false,
        sinceMs: phase.sinceMs,
        keyVersion,
        vaultRequestId: requestId,
        message: set?.alarm?.message ?? null,
      };
    default:
      return assertNever(phase, 'phase');
  }
}

export function sameState(a: DiskStateView, b: DiskStateView): boolean {
  return a.state === b.state && a.reason === b.reason && a.revoked === b.revoked;
}

/** The error of a command that the lifecycle refuses. */
export function refusalError(
  command: string,
  disk: string,
  { refusal, facts }: Effect & { kind: 'refuse' },
): KeyholdError {
  const { reason, keyVersion, vaultRequestId: requestId } = facts;
  const detail = facts.message === null ? '' : `: ${facts.message}`;
  const message = `${command}ing disk ${disk}: ${reason}${detail}`;
  const fields = { disk, reason, keyVersion, requestId };
  switch (refusal) {
    case 'key':
      return new KeyholdError(codes.ERR_DISK_KEY_INACCESSIBLE, message, { fields });
    case 'unusable':
      return new KeyholdError(codes.ERR_DISK_UNUSABLE, message, { fields });
    case 'not-attached':
      return new KeyholdError(codes.ERR_DISK_NOT_ATTACHED, message, { fields });
    default:
      return assertNever(refusal, 'refusal');
  }
}

/** A key that turned out inaccessible on the way is refused like one that was known to be. */
export function failureError(
  command: string,
  failed: { disk: string; state: DiskStateView; error: unknown },
): unknown {
  const { disk, error } = failed;
  const { reason } = failed.state;
  if (reason === null || !isKeyReason(reason)) return error;
  return new KeyholdError(
    codes.ERR_DISK_KEY_INACCESSIBLE,
    `${command}ing disk ${disk}: ${reason}: ${messageOf(error)}`,
    { fields: { disk, reason }, cause: error },
  );
}

/** `inherited`: what set the events in motion that an effect fed back. */
export function causeOf(event: LifecycleEvent, inherited: DiskCause | undefined): DiskCause {
  switch (event.kind) {
    case 'timer':
      return event.timer === 'grace' ? 'grace-timeout' : 'suspend-timeout';
    case 'opened':
    case 'resumed':
      return inherited ?? 'access';
    case 'open-failed':
    case 'resume-failed':
      return 'failure';
    case 'clients':
      return 'access';
    case 'erased':
      return 'erase';
    case 'attach':
    case 'detach':
    case 'restart':
    case 'shutdown':
    case 'access':
    case 'lease-ended':
      return event.kind;
    default:
      return assertNever(event, 'lifecycle event');
  }
}

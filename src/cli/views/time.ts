// SPDX-License-Identifier: Apache-2.0
import { formatDuration } from '../../base/units.js';

/** `2026-01-01T00:00:00.000Z (3m12s ago)`: the machine's time for logs, the age for people. */
export function formatSince(time: string, nowMs: number): string {
  return `${time} (${formatAge(time, nowMs)} ago)`;
}

/** `3m12s`; from one day on `5d3h`, since nobody counts hours in hundreds. */
export function formatAge(time: string, nowMs: number): string {
  return formatSpan(Math.max(0, nowMs - Date.parse(time)));
}

export function formatSpan(durationMs: number): string {
  const hours = Math.floor(durationMs / 3_600_000);
  if (hours < 24) return formatDuration(durationMs);
  const rest = hours % 24;
  return `${Math.floor(hours / 24)}d${rest === 0 ? '' : `${rest}h`}`;
}

/** `42s` of a lease, `ended`, or `none` where there never was one. */
export function formatLease(secondsLeft: number | null): string {
  if (secondsLeft === null) return 'none';
  return secondsLeft <= 0 ? 'ended' : formatDuration(Math.floor(secondsLeft) * 1000);
}

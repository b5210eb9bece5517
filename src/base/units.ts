// SPDX-License-Identifier: Apache-2.0
import { defineErrors, KeyholdError } from './errors.js';

const codes = defineErrors({
  ERR_UNIT_SIZE: {
    kind: 'invalid',
    summary: 'A size could not be read.',
    hint: 'write a whole number with an optional suffix K, M, G or T (powers of 1024), such as 10G',
  },
  ERR_UNIT_DURATION: {
    kind: 'invalid',
    summary: 'A duration could not be read.',
    hint: 'write a number with a suffix ms, s, m or h, such as 10s',
  },
});

const SIZE_FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};

/** Reads `10G`, `512`, `4MiB` as bytes (powers of 1024; at most 2^53 − 1). */
export function parseSizeBytes(text: string): number {
  const match = /^(\d+)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const factor = SIZE_FACTORS[(match?.[2] ?? '').toUpperCase()];
  const sizeBytes = Number(match?.[1]) * (factor ?? Number.NaN);
  if (!Number.isSafeInteger(sizeBytes)) {
    throw new KeyholdError(
      codes.ERR_UNIT_SIZE,
      `cannot read size ${JSON.stringify(text)}: expected a whole number with suffix K, M, G or T, at most 2^53 - 1 bytes`,
      { fields: { text } },
    );
  }
  return sizeBytes;
}

const DURATION_FACTORS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Reads `500ms`, `10s`, `5m`, `1h` as whole milliseconds. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h)$/.exec(text.trim());
  const durationMs = Math.round(
    Number(match?.[1]) * (DURATION_FACTORS[match?.[2] ?? ''] ?? Number.NaN),
  );
  if (!Number.isSafeInteger(durationMs)) {
    throw new KeyholdError(
      codes.ERR_UNIT_DURATION,
      `cannot read duration ${JSON.stringify(text)}: expected a number with suffix ms, s, m or h`,
      { fields: { text } },
    );
  }
  return durationMs;
}

/** `1536` → `1.5 KiB`. */
export function formatSize(sizeBytes: number): string {
  const suffixes = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = sizeBytes;
  let index = 0;
  while (value >= 1024 && index < suffixes.length - 1) {
    value /= 1024;
    index += 1;
  }
  const digits = Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${suffixes[index] ?? 'B'}`;
}

/** `90000` → `1m30s`; below one second in milliseconds. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)}ms`;
  const seconds = Math.round(durationMs / 1000);
  const parts = [
    [Math.floor(seconds / 3600), 'h'],
    [Math.floor((seconds % 3600) / 60), 'm'],
    [seconds % 60, 's'],
  ] as const;
  return parts
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join('');
}

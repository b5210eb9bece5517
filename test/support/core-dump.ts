// SPDX-License-Identifier: Apache-2.0
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expandAes256, multiply } from './dek-oracle.js';
import { run } from './process.js';

export interface Needle {
  readonly name: string;
  readonly bytes: Buffer;
}

/** Enough that a needle which straddles two pieces is still seen whole in one. */
const OVERLAP_BYTES = 256;
const PIECE_BYTES = 16 * 1024 * 1024;

/**
 * Dumps a process with gcore, everything that ptrace can read, excluded mappings too (`-a`), and
 * returns the names of the needles that are in the dump.
 */
export async function findInCore(
  pid: number,
  needles: readonly Needle[],
  dir: string,
): Promise<{ found: string[]; sizeBytes: number }> {
  const prefix = join(dir, 'core');
  const result = await run('gcore', ['-a', '-o', prefix, String(pid)], { timeoutMs: 110_000 });
  const path = `${prefix}.${String(pid)}`;
  if (result.status !== 0) throw new Error(`gcore: ${result.stdout}${result.stderr}`);
  try {
    return await searchFile(path, needles);
  } finally {
    await rm(path, { force: true });
  }
}

/** One pass over the file: a table of two-byte beginnings decides where needles are compared. */
export async function searchFile(
  path: string,
  needles: readonly Needle[],
): Promise<{ found: string[]; sizeBytes: number }> {
  const beginnings = new Map<number, Needle[]>();
  const mayBegin = new Uint8Array(65_536);
  for (const needle of needles) {
    if (needle.bytes.length < 8 || needle.bytes.length > OVERLAP_BYTES) {
      throw new RangeError(`needle ${needle.name} has ${String(needle.bytes.length)} bytes`);
    }
    const beginning = needle.bytes.readUInt16LE(0);
    mayBegin[beginning] = 1;
    beginnings.set(beginning, [...(beginnings.get(beginning) ?? []), needle]);
  }
  const found = new Set<string>();
  const piece = Buffer.alloc(PIECE_BYTES + OVERLAP_BYTES);
  const file = await open(path, 'r');
  let offset = 0;
  try {
    for (;;) {
      const { bytesRead } = await file.read(piece, 0, piece.length, offset);
      searchPiece(piece.subarray(0, bytesRead), mayBegin, beginnings, found);
      if (bytesRead < piece.length)
        return { found: [...found].sort(), sizeBytes: offset + bytesRead };
      offset += PIECE_BYTES;
    }
  } finally {
    await file.close();
  }
}

function searchPiece(
  piece: Buffer,
  mayBegin: Uint8Array,
  beginnings: ReadonlyMap<number, readonly Needle[]>,
  found: Set<string>,
): void {
  const end = piece.length - 1;
  for (let at = 0; at < end; at += 1) {
    const beginning = (piece[at] as number) | ((piece[at + 1] as number) << 8);
    if (mayBegin[beginning] === 0) continue;
    for (const needle of beginnings.get(beginning) ?? []) {
      const stop = at + needle.bytes.length;
      if (
        stop <= piece.length &&
        piece.compare(needle.bytes, 0, needle.bytes.length, at, stop) === 0
      ) {
        found.add(needle.name);
      }
    }
  }
}

/**
 * Everything by which a 32-byte AES key could be found: raw, either half, hex, base64 and base64url
 * at each of the three alignments, and the round keys of the schedule for encryption and (after the
 * inverse column mix) for decryption.
 */
export function keyNeedles(name: string, key: Buffer): Needle[] {
  const needles: Needle[] = [
    { name: `${name} raw`, bytes: key },
    { name: `${name} first half`, bytes: key.subarray(0, 16) },
    { name: `${name} second half`, bytes: key.subarray(16) },
    { name: `${name} hex`, bytes: Buffer.from(key.toString('hex')) },
    { name: `${name} HEX`, bytes: Buffer.from(key.toString('hex').toUpperCase()) },
  ];
  for (const skip of [0, 1, 2]) {
    const whole = key.subarray(skip, skip + 30);
    for (const encoding of ['base64', 'base64url'] as const) {
      needles.push({
        name: `${name} ${encoding} at ${String(skip)}`,
        bytes: Buffer.from(whole.toString(encoding)),
      });
    }
  }
  expandAes256(key).forEach((roundKey, round) => {
    if (round >= 2) needles.push({ name: `${name} round key ${String(round)}`, bytes: roundKey });
    if (round >= 1 && round <= 13) {
      needles.push({
        name: `${name} inverse round key ${String(round)}`,
        bytes: inverseMixColumns(roundKey),
      });
    }
  });
  return needles;
}

function inverseMixColumns(block: Buffer): Buffer {
  const mixed = Buffer.alloc(16);
  for (let column = 0; column < 16; column += 4) {
    for (let row = 0; row < 4; row += 1) {
      mixed[column + row] =
        multiply(0x0e, block[column + row] ?? 0) ^
        multiply(0x0b, block[column + ((row + 1) % 4)] ?? 0) ^
        multiply(0x0d, block[column + ((row + 2) % 4)] ?? 0) ^
        multiply(0x09, block[column + ((row + 3) % 4)] ?? 0);
    }
  }
  return mixed;
}

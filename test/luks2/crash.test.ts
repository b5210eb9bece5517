// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { test } from 'tap';
import { decodeHeaderPair } from '../../src/luks2/header-pair.js';
import type { HeaderPair } from '../../src/luks2/header-pair.js';
import { encode, SAMPLE } from './sample.js';

/** What a store may write all-or-nothing at the least. */
const ATOMIC_BYTES = 512;
const SECTORS = 16_384 / ATOMIC_BYTES;

const OLD = { ...SAMPLE, label: 'old' };
const NEW = { ...SAMPLE, label: 'new' };

/** The bytes after a crash: only the marked 512-byte sectors of `next` reached the store. */
function torn(previous: Uint8Array, next: Uint8Array, reached: readonly boolean[]): Uint8Array {
  const result = Uint8Array.from(previous);
  for (const [index, done] of reached.entries()) {
    if (!done) continue;
    const offset = index * ATOMIC_BYTES;
    result.set(next.subarray(offset, offset + ATOMIC_BYTES), offset);
  }
  return result;
}

/** Every state that a crash during the update can leave: secondary first, then primary. */
function crashed(old: HeaderPair, next: HeaderPair, reached: readonly boolean[]): HeaderPair[] {
  return [
    { primary: old.primary, secondary: torn(old.secondary, next.secondary, reached) },
    { primary: torn(old.primary, next.primary, reached), secondary: next.secondary },
  ];
}

function firstSectors(count: number): boolean[] {
  return Array.from({ length: SECTORS }, (_, index) => index < count);
}

void test('a crash at any sector of an update leaves the old or the new header, whole', (t) => {
  const old = encode(OLD, 1);
  const next = encode(NEW, 2);
  for (let count = 0; count <= SECTORS; count += 1) {
    const labels = crashed(old, next, firstSectors(count)).map(
      ({ primary, secondary }) => decodeHeaderPair(primary, secondary).metadata.label,
    );
    t.strictSame(labels, [count >= lastChanged(old, next) ? 'new' : 'old', 'new']);
  }
  t.end();
});

/** Sectors behind the JSON text are zero in both headers: they need not be written to be right. */
function lastChanged(old: HeaderPair, next: HeaderPair): number {
  for (let index = SECTORS - 1; index >= 0; index -= 1) {
    const range = [index * ATOMIC_BYTES, (index + 1) * ATOMIC_BYTES] as const;
    const before = Buffer.from(old.secondary.subarray(...range));
    if (!before.equals(next.secondary.subarray(...range))) return index + 1;
  }
  return 0;
}

void test('sectors that reach the store in any order leave the old or the new header', (t) => {
  const old = encode(OLD, 1);
  const next = encode(NEW, 2);
  const anySectors = fc.array(fc.boolean(), { minLength: SECTORS, maxLength: SECTORS });
  fc.assert(
    fc.property(anySectors, (reached) => {
      for (const pair of crashed(old, next, reached)) {
        const { metadata, seqid } = decodeHeaderPair(pair.primary, pair.secondary);
        if (!isDeepStrictEqual(metadata, seqid === 1 ? OLD : NEW)) return false;
      }
      return true;
    }),
    { numRuns: 200 },
  );
  t.pass('the property holds');
  t.end();
});

void test('a crash during the repair after a crash loses nothing either', (t) => {
  const old = encode(OLD, 1);
  const next = encode(NEW, 2);
  const losses: string[] = [];
  for (let count = 0; count <= SECTORS; count += 1) {
    for (const pair of crashed(old, next, firstSectors(count))) {
      const found = decodeHeaderPair(pair.primary, pair.secondary);
      const { repair, metadata, seqid } = found;
      if (repair === 'none') continue;
      const fresh = encode(metadata, seqid);
      for (let again = 0; again <= SECTORS; again += 1) {
        const half = { ...pair, [repair]: torn(pair[repair], fresh[repair], firstSectors(again)) };
        const after = decodeHeaderPair(half.primary, half.secondary);
        if (!isDeepStrictEqual(after.metadata, metadata)) losses.push(`${count}, ${again}`);
      }
    }
  }
  t.strictSame(losses, []);
  t.end();
});

void test('after the repair both copies are whole and equal', (t) => {
  const old = encode(OLD, 1);
  const next = encode(NEW, 2);
  const halfWay = { primary: old.primary, secondary: next.secondary };
  const found = decodeHeaderPair(halfWay.primary, halfWay.secondary);
  t.equal(found.repair, 'primary');
  const repaired = { ...halfWay, primary: encode(found.metadata, found.seqid).primary };
  t.equal(decodeHeaderPair(repaired.primary, repaired.secondary).repair, 'none');
  t.end();
});

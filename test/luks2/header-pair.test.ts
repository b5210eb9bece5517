// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import { decodeHeaderPair } from '../../src/luks2/header-pair.js';
import { labelFor } from '../../src/luks2/label.js';
import type { HeaderMetadata } from '../../src/luks2/metadata.js';
import { anyMetadata, encode, filled, patched, reseal, SAMPLE, withToken } from './sample.js';

/** Hostile bytes are tried for this long, and by count at most as given. */
const HOSTILE_TIME_MS = 5000;

void test('a header comes back as it was written', (t) => {
  const { primary, secondary } = encode(SAMPLE, 7);
  const decoded = decodeHeaderPair(primary, secondary);
  t.strictSame(decoded, { metadata: SAMPLE, seqid: 7, repair: 'none', faults: {} });
  t.end();
});

void test('any header comes back as it was written', (t) => {
  fc.assert(
    fc.property(anyMetadata, fc.integer({ min: 1, max: 2 ** 53 - 1 }), (metadata, seqid) => {
      const { primary, secondary } = encode(metadata, seqid);
      const decoded = decodeHeaderPair(primary, secondary);
      return isDeepStrictEqual(decoded, { metadata, seqid, repair: 'none', faults: {} });
    }),
    { numRuns: 100 },
  );
  t.pass('the property holds');
  t.end();
});

void test('both copies are 16 KiB and differ in salt, magic and position', (t) => {
  const { primary, secondary } = encode();
  t.equal(primary.length, 16_384);
  t.equal(secondary.length, 16_384);
  t.equal(Buffer.from(primary.subarray(0, 6)).toString('latin1'), 'LUKS\xba\xbe');
  t.equal(Buffer.from(secondary.subarray(0, 6)).toString('latin1'), 'SKUL\xba\xbe');
  t.notSame(primary.subarray(104, 168), secondary.subarray(104, 168));
  t.end();
});

void test('copies that are views into a larger buffer decode as well', (t) => {
  const { primary, secondary } = encode();
  const store = Buffer.concat([filled(3, 9), primary, secondary]);
  const decoded = decodeHeaderPair(store.subarray(3, 16_387), store.subarray(16_387));
  t.equal(decoded.repair, 'none');
  t.end();
});

const unwritable: [string, HeaderMetadata, RegExp][] = [
  ['a uuid that is none', { ...SAMPLE, uuid: 'x' }, /uuid is "x", expected a uuid/],
  [
    'a label of 48 bytes',
    { ...SAMPLE, label: 'x'.repeat(48) },
    /label is 48 bytes, expected .* 47/,
  ],
  ['a label with a zero byte', { ...SAMPLE, label: 'a\0b' }, /without zero bytes/],
  ['a label with half a character', { ...SAMPLE, label: '\ud800' }, /label/],
  ['a sector size of 1024', { ...SAMPLE, sectorSizeBytes: 1024 as 512 }, /sector_size/],
  [
    'a digest of 31 bytes',
    { ...SAMPLE, digest: { ...SAMPLE.digest, digest: filled(31, 0) } },
    /digests\.0\.digest: is 31 bytes, expected 32/,
  ],
  [
    'a salt of 33 bytes',
    { ...SAMPLE, digest: { ...SAMPLE.digest, salt: filled(33, 0) } },
    /digests\.0\.salt: is 33 bytes, expected 32/,
  ],
  [
    '999 iterations',
    { ...SAMPLE, digest: { ...SAMPLE.digest, iterations: 999 } },
    /iterations: .*1000/,
  ],
  ['generation 0', withToken({ dekGeneration: 0 }), /dekGeneration: .*>=1/],
  ['generation 2^32', withToken({ setKeyGeneration: 2 ** 32 }), /setKeyGeneration/],
  ['a fractional generation', withToken({ setKeyGeneration: 1.5 }), /setKeyGeneration/],
  ['a disk name with a control character', withToken({ diskName: 'a\n' }), /control characters/],
  ['an empty disk name', withToken({ diskName: '' }), /diskName/],
  ['no wrapped set key', withToken({ wrappedSetKeys: [] }), /wrappedSetKeys/],
  [
    'a wrapped set key of 128 bytes',
    withToken({ wrappedSetKeys: [{ kid: 'k', alg: 'RSA-OAEP-256', value: filled(128, 0) }] }),
    /is 128 bytes, expected 256 or 384 or 512/,
  ],
  [
    'nine wrapped set keys',
    withToken({
      wrappedSetKeys: Array.from({ length: 9 }, () => {
        return { kid: 'k', alg: 'RSA-OAEP-256' as const, value: filled(256, 0) };
      }),
    }),
    /wrappedSetKeys/,
  ],
  [
    'a nonce of 11 bytes',
    withToken({ sealedDek: { ...SAMPLE.token.sealedDek, nonce: filled(11, 0) } }),
    /nonce: is 11 bytes, expected 12/,
  ],
  [
    'a ciphertext of 63 bytes',
    withToken({ sealedDek: { ...SAMPLE.token.sealedDek, ciphertext: filled(63, 0) } }),
    /ciphertext: is 63 bytes, expected 64/,
  ],
  [
    'a tag of 17 bytes',
    withToken({ sealedDek: { ...SAMPLE.token.sealedDek, tag: filled(17, 0) } }),
    /tag: is 17 bytes, expected 16/,
  ],
];

for (const [what, metadata, message] of unwritable) {
  void test(`${what} is not written`, (t) => {
    t.throws(() => encode(metadata), { code: 'ERR_LUKS2_METADATA', message });
    t.end();
  });
}

void test('contents that outgrow the JSON area are refused with both sizes', (t) => {
  const wrappedSetKeys = Array.from({ length: 8 }, () => {
    return { kid: '☃'.repeat(500), alg: 'RSA-OAEP-256' as const, value: filled(512, 0) };
  });
  t.throws(() => encode(withToken({ wrappedSetKeys })), {
    code: 'ERR_LUKS2_TOO_LARGE',
    message: /JSON is \d+ bytes, room is for 12287/,
  });
  t.end();
});

void test('eight wrapped 4096-bit keys with long key ids fit', (t) => {
  const wrappedSetKeys = Array.from({ length: 8 }, (_, index) => {
    const kid = `https://${'v'.repeat(24)}.vault.azure.net/keys/${'k'.repeat(127)}/${index}`;
    return { kid, alg: 'RSA-OAEP-256' as const, value: filled(512, index) };
  });
  const { primary, secondary } = encode(withToken({ wrappedSetKeys }));
  t.strictSame(decodeHeaderPair(primary, secondary).metadata.token.wrappedSetKeys, wrappedSetKeys);
  t.end();
});

for (const seqid of [0, -1, 1.5, 2 ** 53, Number.NaN]) {
  void test(`a sequence number of ${seqid} is a programmer's error`, (t) => {
    t.throws(() => encode(SAMPLE, seqid), { message: /seqid is .*, expected a positive safe/ });
    t.end();
  });
}

void test('the label is the disk name, cut at a character boundary', (t) => {
  t.equal(labelFor('demo'), 'demo');
  t.equal(labelFor('x'.repeat(48)), 'x'.repeat(47));
  t.equal(labelFor(`${'x'.repeat(46)}é`), 'x'.repeat(46));
  t.equal(labelFor(`${'x'.repeat(45)}é`), `${'x'.repeat(45)}é`);
  t.equal(labelFor(`${'x'.repeat(45)}🙂`), 'x'.repeat(45));
  t.end();
});

void test('hostile bytes give a KeyholdError and nothing else', (t) => {
  const good = encode();
  const hostileCopy = (copy: Uint8Array) =>
    fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      fc
        .tuple(fc.nat(16_383), fc.uint8Array({ minLength: 1, maxLength: 16 }), fc.boolean())
        .map(([offset, bytes, fix]) => {
          const fitting = bytes.subarray(0, 16_384 - offset);
          const changed = patched(copy, offset, fitting);
          return fix ? reseal(changed) : changed;
        }),
      fc.string({ maxLength: 4000 }).map((text) => {
        const changed = Uint8Array.from(copy);
        changed.fill(0, 4096);
        changed.set(Buffer.from(text), 4096);
        return reseal(changed);
      }),
    );
  fc.assert(
    fc.property(hostileCopy(good.primary), hostileCopy(good.secondary), (primary, secondary) => {
      try {
        decodeHeaderPair(primary, secondary);
      } catch (error) {
        if (!(error instanceof KeyholdError)) throw error;
      }
    }),
    { numRuns: 3000, interruptAfterTimeLimit: HOSTILE_TIME_MS },
  );
  t.pass('the property holds');
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import { decodeHeaderPair } from '../../src/luks2/header-pair.js';
import type { DecodedHeaderPair } from '../../src/luks2/header-pair.js';
import { edited, encode, filled, jsonOf, patched, reseal, SAMPLE, withJson } from './sample.js';
import type { Json } from './sample.js';

type Mangle = (copy: Uint8Array) => Uint8Array;

function u64(value: bigint): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

const inBinary =
  (offset: number, bytes: Uint8Array | string): Mangle =>
  (copy) =>
    reseal(patched(copy, offset, bytes));

const inJson =
  (path: string, value: unknown): Mangle =>
  (copy) =>
    withJson(copy, edited(jsonOf(copy), path, value));

const token = 'tokens.0';

/** One field each, with the checksum made to fit, and what the fault must say. */
const mangles: [string, Mangle, RegExp][] = [
  ['magic', inBinary(0, 'XXXX\xba\xbe'), /magic is 58585858babe, expected /],
  ['version 3', inBinary(6, '\x00\x03'), /version is 3, expected 2/],
  ['hdr_size', inBinary(8, u64(16_385n)), /hdr_size is 16385, expected 16384/],
  ['hdr_size of another kind of header', inBinary(8, u64(32_768n)), /hdr_size is 32768/],
  ['hdr_offset', inBinary(256, u64(512n)), /hdr_offset is 512, expected (0|16384)/],
  ['csum_alg', inBinary(72, 'sha512'), /csum_alg is "sha512", expected "sha256"/],
  ['csum_alg without end', inBinary(72, 'a'.repeat(32)), /csum_alg is null/],
  ['uuid', inBinary(168, 'z'), /uuid is "z.*expected a uuid/],
  ['uuid without end', inBinary(168, 'a'.repeat(40)), /uuid is null/],
  ['label without end', inBinary(24, 'a'.repeat(48)), /label is not terminated/],
  ['label that is no UTF-8', inBinary(24, '\xff\xfe'), /label is not terminated UTF-8/],
  ['seqid above 2^53', inBinary(16, u64(2n ** 53n)), /seqid is 9007199254740992, expected at most/],
  ['checksum', (copy) => patched(copy, 448, filled(32, 7)), /checksum is 0707.*, computed /],
  ['salt', (copy) => patched(copy, 104, filled(64, 7)), /checksum is .*, computed /],
  ['a padding byte', (copy) => patched(copy, 300, '\x01'), /checksum is .*, computed /],
  ['the last byte', (copy) => patched(copy, 16_383, '\x01'), /checksum is .*, computed /],
  ['a bit of the JSON text', (copy) => patched(copy, 4100, '\x01'), /checksum/],
  ['length', (copy) => copy.subarray(0, 16_383), /is 16383 bytes, expected 16384/],
  ['JSON without end', (copy) => withJson(copy, ' '.repeat(12_288)), /no terminating zero/],
  ['bytes after the JSON text', inBinary(16_383, '\x01'), /bytes after its terminating zero/],
  ['JSON that is no UTF-8', (copy) => withJson(copy, Buffer.from([0xff])), /not UTF-8/],
  ['JSON with a byte order mark', (copy) => withJson(copy, '\ufeff{}'), /is not JSON/],
  ['JSON that is empty', (copy) => withJson(copy, ''), /is not JSON/],
  ['JSON that is cut', (copy) => withJson(copy, '{"tokens":'), /is not JSON/],
  ['JSON of brackets only', (copy) => withJson(copy, '['.repeat(12_000)), /is not JSON/],
  ['JSON that is a list', (copy) => withJson(copy, '[]'), /top level/],
  ['no keyslots section', inJson('keyslots', undefined), /keyslots/],
  ['no tokens section', inJson('tokens', undefined), /tokens/],
  ['no segments section', inJson('segments', undefined), /segments/],
  ['no digests section', inJson('digests', undefined), /digests/],
  ['no config section', inJson('config', undefined), /config/],
  ['an unknown section', inJson('extras', {}), /top level: .*extras/],
  ['a keyslot', inJson('keyslots.0', { type: 'luks2' }), /keyslots: .*"0"/],
  ['a second token', inJson('tokens.1', { type: 'luks2-keyring', keyslots: [] }), /tokens: .*"1"/],
  ['an unknown token field', inJson(`${token}.extra`, 1), /extra/],
  ['a token that names keyslots', inJson(`${token}.keyslots`, ['0']), /keyslots/],
  ['a token version that is a text', inJson(`${token}.version`, '1'), /version/],
  ['no token version', inJson(`${token}.version`, undefined), /version/],
  ['a disk uuid that is none', inJson(`${token}.diskUuid`, '42'), /diskUuid/],
  ['a disk name of 256 units', inJson(`${token}.diskName`, 'x'.repeat(256)), /diskName/],
  ['a disk name with ESC', inJson(`${token}.diskName`, 'a\u001b[m'), /control/],
  ['a set without a name', inJson(`${token}.set`, { id: SAMPLE.token.set.id }), /set\.name/],
  ['a generation that is a text', inJson(`${token}.dekGeneration`, '1'), /dekGeneration/],
  ['a wrapped key of another algorithm', inJson(`${token}.wrappedSetKeys.0.alg`, 'RSA1_5'), /alg/],
  ['base64url', inJson(`${token}.sealedDek.nonce`, '-_-_-_-_-_-_-_-_'), /canonical base64/],
  ['base64 with a blank', inJson(`${token}.sealedDek.tag`, ' AAAAAAAAAAAAAAAAAAAAAA=='), /canon/],
  ['base64 without padding', inJson(`${token}.sealedDek.tag`, 'A'.repeat(22)), /canonical/],
  ['base64 with stray low bits', inJson(`${token}.sealedDek.tag`, `${'A'.repeat(21)}B==`), /canon/],
  [
    'a tag of 15 bytes',
    inJson(`${token}.sealedDek.tag`, 'A'.repeat(20)),
    /is 15 bytes, expected 16/,
  ],
  ['a segment type', inJson('segments.0.type', 'linear'), /segments\.0\.type/],
  ['a segment offset', inJson('segments.0.offset', '16777728'), /segments\.0\.offset/],
  ['an offset that is a number', inJson('segments.0.offset', 16_777_216), /segments\.0\.offset/],
  ['a segment size', inJson('segments.0.size', '1048576'), /segments\.0\.size/],
  ['a tweak offset', inJson('segments.0.iv_tweak', '8'), /iv_tweak/],
  ['another cipher', inJson('segments.0.encryption', 'aes-cbc-plain64'), /encryption/],
  ['a sector size of 2048', inJson('segments.0.sector_size', 2048), /sector_size/],
  ['segment flags', inJson('segments.0.flags', ['in-reencryption']), /flags/],
  ['a second segment', inJson('segments.1', {}), /segments: .*"1"/],
  ['a digest type', inJson('digests.0.type', 'argon2id'), /digests\.0\.type/],
  ['a digest hash', inJson('digests.0.hash', 'sha1'), /digests\.0\.hash/],
  ['a digest of no segment', inJson('digests.0.segments', []), /digests\.0\.segments/],
  ['too many iterations', inJson('digests.0.iterations', 2 ** 20 + 1), /iterations/],
  ['json_size', inJson('config.json_size', '12287'), /json_size/],
  ['keyslots_size', inJson('config.keyslots_size', '0'), /keyslots_size/],
  ['requirements of another form', inJson('config.requirements', []), /requirements/],
];

for (const [what, mangle, fault] of mangles) {
  void test(`damaged in one copy (${what}): the other copy serves and the damage is named`, (t) => {
    const { primary, secondary } = encode(SAMPLE, 5);
    const first = decodeHeaderPair(mangle(primary), secondary);
    t.match(first, { metadata: SAMPLE, seqid: 5, repair: 'primary', faults: { primary: fault } });
    const second = decodeHeaderPair(primary, mangle(secondary));
    t.match(second, { metadata: SAMPLE, repair: 'secondary', faults: { secondary: fault } });
    t.end();
  });
}

for (const [what, mangle, fault] of mangles.filter(([what]) => what !== 'magic')) {
  void test(`damaged in both copies (${what}): refused with each copy's fault`, (t) => {
    const { primary, secondary } = encode();
    t.throws(() => decodeHeaderPair(mangle(primary), mangle(secondary)), {
      code: 'ERR_LUKS2_DAMAGED',
      fields: { primary: fault, secondary: fault },
    });
    t.end();
  });
}

void test('every single flipped bit of a copy is noticed', (t) => {
  const { primary, secondary } = encode();
  fc.assert(
    fc.property(fc.nat(16_383), fc.nat(7), (offset, bit) => {
      // Behind the 32 bytes of SHA-256 the checksum's field is padding that no reader looks at.
      fc.pre(offset < 480 || offset >= 512);
      const flipped = patched(primary, offset, Uint8Array.of((primary[offset] ?? 0) ^ (1 << bit)));
      return decodeHeaderPair(flipped, secondary).repair === 'primary';
    }),
    { numRuns: 500 },
  );
  t.pass('the property holds');
  t.end();
});

function seqids(first: number, second: number): DecodedHeaderPair {
  const metadata = (seqid: number) => ({ ...SAMPLE, label: `seqid ${seqid}` });
  const { primary } = encode(metadata(first), first);
  return decodeHeaderPair(primary, encode(metadata(second), second).secondary);
}

void test('the copy with the higher sequence number wins', (t) => {
  const newerPrimary = seqids(9, 8);
  t.equal(newerPrimary.metadata.label, 'seqid 9');
  t.equal(newerPrimary.repair, 'secondary');
  t.equal(newerPrimary.faults.secondary, 'seqid is 8, the other copy has 9');
  const newerSecondary = seqids(9, 10);
  t.equal(newerSecondary.metadata.label, 'seqid 10');
  t.equal(newerSecondary.repair, 'primary');
  t.equal(newerSecondary.faults.primary, 'seqid is 9, the other copy has 10');
  t.end();
});

void test('sequence numbers are compared as numbers, not byte by byte', (t) => {
  t.equal(seqids(256, 255).seqid, 256);
  t.equal(seqids(255, 256).seqid, 256);
  t.end();
});

void test('of two copies that differ under one sequence number the primary serves', (t) => {
  const { primary } = encode({ ...SAMPLE, label: 'a' }, 4);
  const { secondary } = encode({ ...SAMPLE, label: 'b' }, 4);
  const decoded = decodeHeaderPair(primary, secondary);
  t.equal(decoded.metadata.label, 'a');
  t.equal(decoded.repair, 'secondary');
  t.end();
});

/** A header that is whole but not ours, in both copies or only in the newer one. */
function foreign(edit: (json: Json) => Json): [() => unknown, () => unknown] {
  const old = encode(SAMPLE, 1);
  const next = encode(SAMPLE, 2);
  const primary = withJson(next.primary, edit(jsonOf(next.primary)));
  const secondary = withJson(next.secondary, edit(jsonOf(next.secondary)));
  return [
    () => decodeHeaderPair(primary, secondary),
    () => decodeHeaderPair(old.primary, secondary),
  ];
}

const foreigners: [string, (json: Json) => Json, { code: string; message: RegExp }][] = [
  [
    'an unknown mandatory requirement',
    (json) =>
      edited(json, 'config.requirements', { mandatory: ['keyhold-holes', 'online-reencrypt'] }),
    { code: 'ERR_LUKS2_REQUIREMENT', message: /"online-reencrypt" is unknown, known is/ },
  ],
  [
    'a newer token version',
    (json) => edited(json, 'tokens.0.version', 2),
    { code: 'ERR_LUKS2_TOKEN_VERSION', message: /version 2, expected 1/ },
  ],
  [
    'no token',
    (json) => edited(json, 'tokens', {}),
    { code: 'ERR_LUKS2_NOT_KEYHOLD', message: /token types are \[\], expected "keyhold"/ },
  ],
  [
    'another token',
    (json) => edited(json, 'tokens.0.type', 'clevis'),
    { code: 'ERR_LUKS2_NOT_KEYHOLD', message: /\["clevis"\], expected "keyhold"/ },
  ],
];

for (const [what, edit, error] of foreigners) {
  void test(`${what} is refused, and an older copy is no way round it`, (t) => {
    const [both, newer] = foreign(edit);
    t.throws(both, error);
    t.throws(newer, error);
    t.end();
  });

  void test(`${what} in a torn-off older copy does not matter`, (t) => {
    const old = encode(SAMPLE, 1);
    const next = encode(SAMPLE, 2);
    const primary = withJson(old.primary, edit(jsonOf(old.primary)));
    t.equal(decodeHeaderPair(primary, next.secondary).repair, 'primary');
    t.end();
  });
}

void test('flags that a newer cryptsetup puts into config are accepted', (t) => {
  const { primary, secondary } = encode();
  const edit = (copy: Uint8Array): Uint8Array =>
    withJson(copy, edited(jsonOf(copy), 'config.flags', ['allow-discards']));
  t.equal(decodeHeaderPair(edit(primary), edit(secondary)).repair, 'none');
  t.end();
});

void test('what is no LUKS at all is told apart from damage', (t) => {
  const nothing = filled(16_384, 0);
  t.throws(() => decodeHeaderPair(nothing, nothing), {
    code: 'ERR_LUKS2_NOT_LUKS',
    message: /magic is 000000000000, expected 4c554b53babe/,
  });
  t.throws(() => decodeHeaderPair(filled(0, 0), filled(0, 0)), {
    code: 'ERR_LUKS2_NOT_LUKS',
    message: /magic is missing/,
  });
  t.end();
});

void test('an overwritten primary copy is repaired from the secondary', (t) => {
  const { secondary } = encode();
  t.equal(decodeHeaderPair(filled(16_384, 0), secondary).repair, 'primary');
  t.end();
});

void test('LUKS1 is refused by its version, even beside an intact secondary copy', (t) => {
  const { primary, secondary } = encode();
  const luks1 = patched(primary, 6, '\x00\x01');
  t.throws(() => decodeHeaderPair(luks1, secondary), {
    code: 'ERR_LUKS2_VERSION',
    message: /version is 1, expected 2/,
  });
  t.end();
});

void test('a LUKS2 header of another size is not called damaged', (t) => {
  const { primary } = encode();
  const large = reseal(patched(primary, 8, u64(65_536n)));
  t.throws(() => decodeHeaderPair(large, filled(16_384, 0)), {
    code: 'ERR_LUKS2_NOT_KEYHOLD',
    message: /hdr_size is 65536, Keyhold writes 16384/,
  });
  t.end();
});

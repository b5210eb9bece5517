// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import { encodeDekAad } from '../../src/luks2/dek-aad.js';

const BINDING = {
  diskUuid: '00112233-4455-6677-8899-aabbccddeeff',
  setId: 'ffeeddcc-bbaa-9988-7766-554433221100',
  setKeyGeneration: 3,
  dekGeneration: 0xdeadbeef,
};

void test('the additional data is laid out as documented', (t) => {
  const expected =
    '6b6579686f6c642d64656b00' + // "keyhold-dek\0"
    '00000001' +
    '00112233445566778899aabbccddeeff' +
    'ffeeddccbbaa99887766554433221100' +
    '00000003' +
    'deadbeef';
  t.equal(Buffer.from(encodeDekAad(BINDING)).toString('hex'), expected);
  t.end();
});

void test('an upper-case uuid gives the same bytes', (t) => {
  const upper = { ...BINDING, diskUuid: BINDING.diskUuid.toUpperCase() };
  t.strictSame(encodeDekAad(upper), encodeDekAad(BINDING));
  t.end();
});

void test('different bindings never give the same bytes', (t) => {
  const generation = fc.integer({ min: 1, max: 2 ** 32 - 1 });
  const binding = fc.record({
    diskUuid: fc.uuid(),
    setId: fc.uuid(),
    setKeyGeneration: generation,
    dekGeneration: generation,
  });
  fc.assert(
    fc.property(binding, binding, (a, b) => {
      const equal = JSON.stringify(a) === JSON.stringify(b);
      return Buffer.from(encodeDekAad(a)).equals(encodeDekAad(b)) === equal;
    }),
  );
  t.pass('the property holds');
  t.end();
});

void test('each field changes the bytes', (t) => {
  const base = Buffer.from(encodeDekAad(BINDING)).toString('hex');
  const changes: Partial<typeof BINDING>[] = [
    { diskUuid: BINDING.setId },
    { setId: BINDING.diskUuid },
    { setKeyGeneration: 4 },
    { dekGeneration: 1 },
  ];
  for (const change of changes) {
    const changed = Buffer.from(encodeDekAad({ ...BINDING, ...change })).toString('hex');
    t.not(changed, base);
  }
  t.end();
});

for (const [field, value] of [
  ['diskUuid', 'not a uuid'],
  ['setId', ''],
  ['setId', '00112233445566778899aabbccddeeff'],
  ['setKeyGeneration', 0],
  ['dekGeneration', 2 ** 32],
  ['dekGeneration', 1.5],
] as const) {
  void test(`${field} ${JSON.stringify(value)} is a programmer's error`, (t) => {
    t.throws(() => encodeDekAad({ ...BINDING, [field]: value }), {
      message: new RegExp(`${field} is .*, expected`),
    });
    t.end();
  });
}

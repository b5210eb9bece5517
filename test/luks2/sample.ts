// SPDX-License-Identifier: Apache-2.0
import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { encodeHeaderPair } from '../../src/luks2/header-pair.js';
import type { HeaderPair } from '../../src/luks2/header-pair.js';
import { labelFor } from '../../src/luks2/label.js';
import type { HeaderMetadata } from '../../src/luks2/metadata.js';

export const SAMPLE: HeaderMetadata = {
  uuid: '1b4e28ba-2fa1-11d2-883f-0016d3cca427',
  label: 'demo',
  sectorSizeBytes: 512,
  holes: true,
  digest: { salt: filled(32, 1), iterations: 1000, digest: filled(32, 2) },
  token: {
    version: 1,
    diskUuid: '6fa459ea-ee8a-4ca4-894e-db77e160355e',
    diskName: 'demo',
    set: { id: '886313e1-3b8a-4372-9b90-0c9aee199e5d', name: 'prod' },
    setKeyGeneration: 3,
    dekGeneration: 1,
    wrappedSetKeys: [
      {
        kid: 'https://vault.example/keys/disks/0123456789abcdef0123456789abcdef',
        alg: 'RSA-OAEP-256',
        value: filled(256, 3),
      },
    ],
    sealedDek: { nonce: filled(12, 4), ciphertext: filled(64, 5), tag: filled(16, 6) },
  },
};

export function filled(lengthBytes: number, value: number): Uint8Array {
  return new Uint8Array(lengthBytes).fill(value);
}

export function withToken(token: Partial<HeaderMetadata['token']>): HeaderMetadata {
  return { ...SAMPLE, token: { ...SAMPLE.token, ...token } };
}

export function encode(metadata: HeaderMetadata = SAMPLE, seqid = 1): HeaderPair {
  const salts = { primary: randomBytes(64), secondary: randomBytes(64) };
  return encodeHeaderPair(metadata, { seqid, salts });
}

/** Recomputes the checksum after a test changed a copy, so that the change itself is judged. */
export function reseal(copy: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(copy);
  bytes.fill(0, 448, 512);
  bytes.set(createHash('sha256').update(bytes).digest(), 448);
  return bytes;
}

/** A copy with bytes replaced at an offset; the checksum is left as it was. */
export function patched(copy: Uint8Array, offset: number, bytes: Uint8Array | string): Uint8Array {
  const result = Uint8Array.from(copy);
  result.set(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, offset);
  return result;
}

export type Json = Record<string, unknown>;

export function jsonOf(copy: Uint8Array): Json {
  const area = Buffer.from(copy.subarray(4096));
  return JSON.parse(area.toString('utf8', 0, area.indexOf(0))) as Json;
}

/** A copy with another JSON text and the checksum that fits it. */
export function withJson(copy: Uint8Array, json: Json | string | Uint8Array): Uint8Array {
  const result = Uint8Array.from(copy);
  result.fill(0, 4096);
  const isText = typeof json === 'string' || json instanceof Uint8Array;
  result.set(Buffer.from(isText ? (json as string) : JSON.stringify(json)), 4096);
  return reseal(result);
}

/** Sets the value at a path such as `tokens.0.version`; undefined removes it. */
export function edited(json: Json, path: string, value: unknown): Json {
  const copy = structuredClone(json);
  const names = path.split('.');
  const last = names.pop() ?? '';
  let node = copy;
  for (const name of names) node = node[name] as Json;
  if (value === undefined) Reflect.deleteProperty(node, last);
  else node[last] = value;
  return copy;
}

/** Records with the usual prototype, so that they equal what decoding returns. */
function plainRecord<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record<T>(model, { noNullPrototype: true });
}

const bytesOf = (lengthBytes: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: lengthBytes, maxLength: lengthBytes });

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
  .filter((text) => text.length <= 255 && !/[\p{Cc}\p{Cs}]/u.test(text));

const generation = fc.integer({ min: 1, max: 2 ** 32 - 1 });

export const anyMetadata: fc.Arbitrary<HeaderMetadata> = plainRecord({
  uuid: fc.uuid(),
  sectorSizeBytes: fc.constantFrom<512 | 4096>(512, 4096),
  holes: fc.boolean(),
  digest: plainRecord({
    salt: bytesOf(32),
    iterations: fc.integer({ min: 1000, max: 2 ** 20 }),
    digest: bytesOf(32),
  }),
  token: plainRecord({
    version: fc.constant<1>(1),
    diskUuid: fc.uuid(),
    diskName: name,
    set: plainRecord({ id: fc.uuid(), name }),
    setKeyGeneration: generation,
    dekGeneration: generation,
    wrappedSetKeys: fc.array(
      plainRecord({
        kid: fc.webUrl(),
        alg: fc.constant<'RSA-OAEP-256'>('RSA-OAEP-256'),
        value: fc.constantFrom(256, 384, 512).chain(bytesOf),
      }),
      { minLength: 1, maxLength: 8 },
    ),
    sealedDek: plainRecord({ nonce: bytesOf(12), ciphertext: bytesOf(64), tag: bytesOf(16) }),
  }),
}).map((metadata) => ({ ...metadata, label: labelFor(metadata.token.diskName) }));

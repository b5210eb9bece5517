// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import {
  type AnyToken,
  isOuterToken,
  KID_LENGTH_MAX,
  NAME_LENGTH_MAX,
  PLATFORM_KID_PREFIX,
  SEALED_SET_KEY_BYTES,
  TOKEN_TYPE,
  WRAPPED_SET_KEY_BYTES,
  WRAPPED_SET_KEYS_MAX,
} from './metadata.js';

/** Standard base64 with padding, as everywhere in LUKS2; exactly one text per byte string. */
export function base64Bytes(lengths: readonly number[]) {
  return z.string().transform((text, context) => {
    const bytes = new Uint8Array(Buffer.from(text, 'base64'));
    if (encodeBase64(bytes) !== text) {
      context.addIssue({ code: 'custom', message: 'is not canonical base64' });
      return z.NEVER;
    }
    if (!lengths.includes(bytes.length)) {
      const message = `is ${bytes.length} bytes, expected ${lengths.join(' or ')}`;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    }
    return bytes;
  });
}

export function encodeBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

/** Control characters, and halves of surrogate pairs, which UTF-8 cannot carry. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}]/u;

function text(lengthMax: number) {
  return z
    .string()
    .min(1)
    .max(lengthMax)
    .refine((value) => !UNPRINTABLE.test(value), 'has control characters or is not Unicode');
}

const uuid = z.guid();
const generation = z
  .int()
  .min(1)
  .max(2 ** 32 - 1);
const sealedDek = z.strictObject({
  nonce: base64Bytes([12]),
  ciphertext: base64Bytes([64]),
  tag: base64Bytes([16]),
});

const PLATFORM_KEY_ID = /^[0-9a-f]{32}$/;

const wrappedSetKey = z.discriminatedUnion('alg', [
  z.strictObject({
    kid: text(KID_LENGTH_MAX).refine(
      (kid) => !kid.startsWith(PLATFORM_KID_PREFIX),
      'names a platform key, which seals with A256GCM',
    ),
    alg: z.literal('RSA-OAEP-256'),
    value: base64Bytes(WRAPPED_SET_KEY_BYTES),
  }),
  z.strictObject({
    kid: z
      .string()
      .refine(
        (kid) =>
          kid.startsWith(PLATFORM_KID_PREFIX) &&
          PLATFORM_KEY_ID.test(kid.slice(PLATFORM_KID_PREFIX.length)),
        'expected platform: and 32 hex digits',
      ),
    alg: z.literal('A256GCM'),
    value: base64Bytes([SEALED_SET_KEY_BYTES]),
  }),
]);

const common = {
  type: z.literal(TOKEN_TYPE),
  keyslots: z.tuple([]),
  version: z.literal(1),
  diskUuid: uuid,
  diskName: text(NAME_LENGTH_MAX),
  dekGeneration: generation,
  sealedDek,
};

export const innerTokenSchema = z.strictObject({
  ...common,
  set: z.strictObject({ id: uuid, name: text(NAME_LENGTH_MAX) }),
  setKeyGeneration: generation,
  wrappedSetKeys: z
    .array(wrappedSetKey)
    .min(1)
    .max(WRAPPED_SET_KEYS_MAX)
    .refine(
      (entries) => entries.length === 1 || entries.every(({ alg }) => alg === 'RSA-OAEP-256'),
      'a platform key beside others, expected it alone',
    ),
});

export const outerTokenSchema = z.strictObject({
  ...common,
  layer: z.literal('outer'),
  platformKeyId: z.string().regex(PLATFORM_KEY_ID, 'expected 32 hex digits'),
  wrappedSetKeys: z.tuple([]),
});

/** What the token looks like in the JSON area. */
export function tokenToJson(token: AnyToken): object {
  const sealed = {
    nonce: encodeBase64(token.sealedDek.nonce),
    ciphertext: encodeBase64(token.sealedDek.ciphertext),
    tag: encodeBase64(token.sealedDek.tag),
  };
  const { version, diskUuid, diskName, dekGeneration } = token;
  const begin = { type: TOKEN_TYPE, keyslots: [], version };
  if (isOuterToken(token)) {
    const { layer, platformKeyId } = token;
    const rest = {
      diskUuid,
      diskName,
      dekGeneration,
      platformKeyId,
      wrappedSetKeys: [],
    };
    return { ...begin, layer, ...rest, sealedDek: sealed };
  }
  return {
    ...begin,
    diskUuid,
    diskName,
    set: { id: token.set.id, name: token.set.name },
    setKeyGeneration: token.setKeyGeneration,
    dekGeneration,
    wrappedSetKeys: token.wrappedSetKeys.map(({ kid, alg, value }) => {
      return { kid, alg, value: encodeBase64(value) };
    }),
    sealedDek: sealed,
  };
}

export function tokenFromJson(
  json: z.infer<typeof innerTokenSchema> | z.infer<typeof outerTokenSchema>,
): AnyToken {
  const { version, diskUuid, diskName, dekGeneration } = json;
  const begin = {
    version,
    diskUuid,
    diskName,
    dekGeneration,
    sealedDek: json.sealedDek,
  };
  if ('layer' in json) return { ...begin, layer: json.layer, platformKeyId: json.platformKeyId };
  const { set, setKeyGeneration, wrappedSetKeys } = json;
  return { ...begin, set, setKeyGeneration, wrappedSetKeys };
}

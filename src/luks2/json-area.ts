// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import { DATA_OFFSET_BYTES, JSON_AREA_BYTES, KEYSLOTS_BYTES } from './layout.js';
import {
  DIGEST_ITERATIONS_MAX,
  DIGEST_ITERATIONS_MIN,
  HOLES_REQUIREMENT,
  KID_LENGTH_MAX,
  NAME_LENGTH_MAX,
  PLATFORM_SEAL_BYTES,
  TOKEN_TYPE,
  WRAPPED_SET_KEY_BYTES,
  WRAPPED_SET_KEYS_MAX,
} from './metadata.js';
import type { HeaderMetadata } from './metadata.js';

/** The part of the metadata that lies in the JSON area; the rest is in the binary header. */
export type JsonMetadata = Omit<HeaderMetadata, 'uuid' | 'label'>;

/** What a well-formed JSON area turned out to hold. */
export type JsonContents =
  | { readonly kind: 'keyhold'; readonly metadata: JsonMetadata }
  /** Valid LUKS2 that this version must neither serve nor repair. */
  | { readonly kind: 'foreign'; readonly error: KeyholdError }
  | { readonly kind: 'invalid'; readonly fault: string };

/** Standard base64 with padding, as everywhere in LUKS2; exactly one text per byte string. */
function base64Bytes(lengths: readonly number[]) {
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

function encodeBase64(bytes: Uint8Array): string {
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

const tokenSchema = z.strictObject({
  type: z.literal(TOKEN_TYPE),
  keyslots: z.tuple([]),
  version: z.literal(1),
  diskUuid: uuid,
  diskName: text(NAME_LENGTH_MAX),
  set: z.strictObject({ id: uuid, name: text(NAME_LENGTH_MAX) }),
  setKeyGeneration: generation,
  dekGeneration: generation,
  wrappedSetKeys: z
    .array(
      z.discriminatedUnion('alg', [
        z.strictObject({
          kid: text(KID_LENGTH_MAX),
          alg: z.literal('RSA-OAEP-256'),
          value: base64Bytes(WRAPPED_SET_KEY_BYTES),
        }),
        z.strictObject({
          kid: text(KID_LENGTH_MAX),
          alg: z.literal('A256GCM'),
          value: base64Bytes([PLATFORM_SEAL_BYTES]),
        }),
      ]),
    )
    .min(1)
    .max(WRAPPED_SET_KEYS_MAX),
  sealedDek: z.strictObject({
    nonce: base64Bytes([12]),
    ciphertext: base64Bytes([64]),
    tag: base64Bytes([16]),
  }),
});

const segmentSchema = z.strictObject({
  type: z.literal('crypt'),
  offset: z.literal(String(DATA_OFFSET_BYTES)),
  size: z.literal('dynamic'),
  iv_tweak: z.literal('0'),
  encryption: z.literal('aes-xts-plain64'),
  sector_size: z.union([z.literal(512), z.literal(4096)]),
});

const digestSchema = z.strictObject({
  type: z.literal('pbkdf2'),
  keyslots: z.tuple([]),
  segments: z.tuple([z.literal('0')]),
  hash: z.literal('sha256'),
  iterations: z.int().min(DIGEST_ITERATIONS_MIN).max(DIGEST_ITERATIONS_MAX),
  salt: base64Bytes([32]),
  digest: base64Bytes([32]),
});

const requirementsSchema = z.looseObject({ mandatory: z.array(z.string()).optional() });

/**
 * What Keyhold writes, read back to the letter. Only `config` is open: newer versions of cryptsetup
 * put their flags there. A keyslot is refused, since it would open the disk without the vault.
 */
const headerSchema = z.strictObject({
  keyslots: z.strictObject({}),
  tokens: z.strictObject({ '0': tokenSchema }),
  segments: z.strictObject({ '0': segmentSchema }),
  digests: z.strictObject({ '0': digestSchema }),
  config: z.looseObject({
    json_size: z.literal(String(JSON_AREA_BYTES)),
    keyslots_size: z.literal(String(KEYSLOTS_BYTES)),
    requirements: requirementsSchema.optional(),
  }),
});

/** Enough of any LUKS2 header to tell whose it is. */
const anyLuks2Schema = z.object({
  keyslots: z.record(z.string(), z.unknown()),
  tokens: z.record(z.string(), z.looseObject({ type: z.string() })),
  segments: z.record(z.string(), z.unknown()),
  digests: z.record(z.string(), z.unknown()),
  config: z.looseObject({ requirements: requirementsSchema.optional() }),
});

/** The JSON text of a header. Throws ERR_LUKS2_METADATA for contents that decoding would refuse. */
export function encodeJson(metadata: JsonMetadata): string {
  const json = toJson(metadata);
  const checked = headerSchema.safeParse(json);
  if (!checked.success) {
    throw new KeyholdError(
      codes.ERR_LUKS2_METADATA,
      `encode LUKS2 header: ${firstIssue(checked.error)}`,
    );
  }
  return JSON.stringify(json);
}

export function decodeJson(jsonText: string): JsonContents {
  let json: unknown;
  try {
    json = JSON.parse(jsonText);
  } catch {
    return { kind: 'invalid', fault: 'JSON area is not JSON' };
  }
  const any = anyLuks2Schema.safeParse(json);
  if (!any.success) return { kind: 'invalid', fault: `JSON area: ${firstIssue(any.error)}` };
  const foreign = whyForeign(any.data);
  if (foreign !== undefined) return { kind: 'foreign', error: foreign };
  const strict = headerSchema.safeParse(json);
  if (!strict.success) return { kind: 'invalid', fault: `JSON area: ${firstIssue(strict.error)}` };
  return { kind: 'keyhold', metadata: fromJson(strict.data) };
}

function whyForeign(json: z.infer<typeof anyLuks2Schema>): KeyholdError | undefined {
  const types = Object.values(json.tokens).map((token) => printable(token.type));
  const token = Object.values(json.tokens).find(({ type }) => type === TOKEN_TYPE);
  if (token === undefined) {
    return new KeyholdError(
      codes.ERR_LUKS2_NOT_KEYHOLD,
      `decode LUKS2 header: token types are [${types.join(', ')}], expected "${TOKEN_TYPE}"`,
    );
  }
  const version = token['version'];
  if (typeof version === 'number' && version !== 1) {
    return new KeyholdError(
      codes.ERR_LUKS2_TOKEN_VERSION,
      `decode LUKS2 header: keyhold token has version ${version}, expected 1`,
      { fields: { expected: 1, actual: version } },
    );
  }
  const mandatory = json.config.requirements?.mandatory ?? [];
  const unknown = mandatory.find((requirement) => requirement !== HOLES_REQUIREMENT);
  if (unknown === undefined) return undefined;
  return new KeyholdError(
    codes.ERR_LUKS2_REQUIREMENT,
    `decode LUKS2 header: mandatory requirement ${printable(unknown)} is unknown, ` +
      `known is "${HOLES_REQUIREMENT}"`,
    { fields: { requirement: unknown.slice(0, 64) } },
  );
}

function toJson(metadata: JsonMetadata) {
  const { token, digest } = metadata;
  return {
    keyslots: {},
    tokens: {
      '0': {
        type: TOKEN_TYPE,
        keyslots: [],
        version: token.version,
        diskUuid: token.diskUuid,
        diskName: token.diskName,
        set: { id: token.set.id, name: token.set.name },
        setKeyGeneration: token.setKeyGeneration,
        dekGeneration: token.dekGeneration,
        wrappedSetKeys: token.wrappedSetKeys.map(({ kid, alg, value }) => {
          return { kid, alg, value: encodeBase64(value) };
        }),
        sealedDek: {
          nonce: encodeBase64(token.sealedDek.nonce),
          ciphertext: encodeBase64(token.sealedDek.ciphertext),
          tag: encodeBase64(token.sealedDek.tag),
        },
      },
    },
    segments: {
      '0': {
        type: 'crypt',
        offset: String(DATA_OFFSET_BYTES),
        size: 'dynamic',
        iv_tweak: '0',
        encryption: 'aes-xts-plain64',
        sector_size: metadata.sectorSizeBytes,
      },
    },
    digests: {
      '0': {
        type: 'pbkdf2',
        keyslots: [],
        segments: ['0'],
        hash: 'sha256',
        iterations: digest.iterations,
        salt: encodeBase64(digest.salt),
        digest: encodeBase64(digest.digest),
      },
    },
    config: {
      json_size: String(JSON_AREA_BYTES),
      keyslots_size: String(KEYSLOTS_BYTES),
      ...(metadata.holes ? { requirements: { mandatory: [HOLES_REQUIREMENT] } } : {}),
    },
  };
}

function fromJson(json: z.infer<typeof headerSchema>): JsonMetadata {
  const token = json.tokens['0'];
  const digest = json.digests['0'];
  const mandatory = json.config.requirements?.mandatory ?? [];
  return {
    sectorSizeBytes: json.segments['0'].sector_size,
    holes: mandatory.includes(HOLES_REQUIREMENT),
    digest: { salt: digest.salt, iterations: digest.iterations, digest: digest.digest },
    token: {
      version: token.version,
      diskUuid: token.diskUuid,
      diskName: token.diskName,
      set: token.set,
      setKeyGeneration: token.setKeyGeneration,
      dekGeneration: token.dekGeneration,
      wrappedSetKeys: token.wrappedSetKeys,
      sealedDek: token.sealedDek,
    },
  };
}

/** The first thing a schema found, as `tokens.0.sealedDek.tag: is 15 bytes, expected 16`. */
function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  if (issue === undefined) return 'does not match the schema';
  const path = issue.path.map(String).join('.');
  return `${path === '' ? 'top level' : path}: ${issue.message.slice(0, 200)}`;
}

function printable(value: string): string {
  return JSON.stringify(value.slice(0, 64));
}

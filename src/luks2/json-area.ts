// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';
import { DATA_OFFSET_BYTES, JSON_AREA_BYTES, KEYSLOTS_BYTES } from './layout.js';
import {
  type AnyHeaderMetadata,
  DIGEST_ITERATIONS_MAX,
  DIGEST_ITERATIONS_MIN,
  HOLES_REQUIREMENT,
  TOKEN_TYPE,
} from './metadata.js';
import {
  base64Bytes,
  encodeBase64,
  innerTokenSchema,
  outerTokenSchema,
  tokenFromJson,
  tokenToJson,
} from './token.js';

/** The part of the metadata that lies in the JSON area; the rest is in the binary header. */
export type JsonMetadata = Omit<AnyHeaderMetadata, 'uuid' | 'label'>;

/** What a well-formed JSON area turned out to hold. */
export type JsonContents =
  | { readonly kind: 'keyhold'; readonly metadata: JsonMetadata }
  /** Valid LUKS2 that this version must neither serve nor repair. */
  | { readonly kind: 'foreign'; readonly error: KeyholdError }
  | { readonly kind: 'invalid'; readonly fault: string };

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
const containerSchema = {
  keyslots: z.strictObject({}),
  segments: z.strictObject({ '0': segmentSchema }),
  digests: z.strictObject({ '0': digestSchema }),
  config: z.looseObject({
    json_size: z.literal(String(JSON_AREA_BYTES)),
    keyslots_size: z.literal(String(KEYSLOTS_BYTES)),
    requirements: requirementsSchema.optional(),
  }),
};

const innerSchema = z.strictObject({
  ...containerSchema,
  tokens: z.strictObject({ '0': innerTokenSchema }),
});
const outerSchema = z.strictObject({
  ...containerSchema,
  tokens: z.strictObject({ '0': outerTokenSchema }),
});

/** The layer says which of the two a header must be; a third one is neither. */
function schemaFor(token: object | undefined): typeof innerSchema | typeof outerSchema {
  return token === undefined || !('layer' in token) ? innerSchema : outerSchema;
}

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
  const checked = schemaFor(json.tokens['0']).safeParse(json);
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
  const strict = schemaFor(any.data.tokens['0']).safeParse(json);
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
      '0': tokenToJson(token),
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

function fromJson(json: z.infer<typeof innerSchema> | z.infer<typeof outerSchema>): JsonMetadata {
  const digest = json.digests['0'];
  const mandatory = json.config.requirements?.mandatory ?? [];
  return {
    sectorSizeBytes: json.segments['0'].sector_size,
    holes: mandatory.includes(HOLES_REQUIREMENT),
    digest: {
      salt: digest.salt,
      iterations: digest.iterations,
      digest: digest.digest,
    },
    token: tokenFromJson(json.tokens['0']),
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

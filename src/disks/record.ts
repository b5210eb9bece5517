// SPDX-License-Identifier: Apache-2.0
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { KeyholdError, messageOf } from '../base/errors.js';
import { NAME_PATTERN } from '../base/names.js';
import { DATA_OFFSET_BYTES } from '../luks2/layout.js';
import { ACCESS_RULES_MAX, formatAccessRule, parseAccessRule } from './access-rule.js';
import { descriptionFault } from './description.js';
import { codes } from './errors.js';

/** Why a disk is offline: the closed list. */
export const OFFLINE_REASONS = [
  'never-attached',
  'detached',
  'key-disabled',
  'key-deleted',
  'access-denied',
  'identity-denied',
  'key-expired',
  'lease-expired',
  'store-error',
  'integrity',
  'fenced',
  'erased',
] as const;
export type OfflineReason = (typeof OFFLINE_REASONS)[number];

/**
 * File offsets are signed 64-bit numbers, JavaScript's are safe to 2^53; for the disks that are
 * encrypted twice it is as good, since no file system has files so long.
 */
export const DISK_BYTES_MAX = Number.MAX_SAFE_INTEGER - DATA_OFFSET_BYTES;

const absolutePath = z.string().max(4095).refine(isAbsolute, 'expected an absolute path');

/** Only the one spelling of a rule: what `disk allow --remove` compares. */
const ruleSchema = z.string().superRefine((text, context) => {
  try {
    const spelled = formatAccessRule(parseAccessRule(text));
    if (spelled !== text) context.addIssue(`expected ${spelled}`);
  } catch (error) {
    context.addIssue(messageOf(error));
  }
});

const descriptionSchema = z.string().superRefine((text, context) => {
  const fault = descriptionFault(text);
  if (fault !== undefined) context.addIssue(`found ${fault}`);
});

const offlineSchema = z.strictObject({
  reason: z.enum(OFFLINE_REASONS),
  since: z.iso.datetime(),
  keyVersion: z.string().nullable(),
  vaultRequestId: z.string().nullable(),
  message: z.string().nullable(),
});

const setRefSchema = z.strictObject({ id: z.uuid(), name: z.string().regex(NAME_PATTERN) });

/**
 * `state_dir/disks/NAME.json`. Where the disk is and what the operator wants; its key is in its
 * header.
 */
export const diskRecordSchema = z
  .strictObject({
    version: z.literal(1),
    name: z.string().regex(NAME_PATTERN),
    uuid: z.uuid(),
    set: setRefSchema,
    /** A move to this set has begun: the header says how far it came (docs/KEYS.md section 2). */
    movingTo: setRefSchema.nullable().default(null),
    sizeBytes: z.int().min(512).max(DISK_BYTES_MAX),
    sectorSizeBytes: z.union([z.literal(512), z.literal(4096)]),
    store: z.strictObject({
      kind: z.literal('file'),
      path: absolutePath,
      /** Made in the state directory by Keyhold, and deleted with the disk. */
      managed: z.boolean(),
      /** It must take direct I/O. False leaves it to the data plane: block devices that can. */
      direct: z.boolean().default(false),
    }),
    readOnly: z.boolean(),
    dmCrypt: z.boolean(),
    /** Two containers, one in the other: docs/KEYS.md section 4. */
    double: z.boolean().default(false),
    /** A hint for clients that seeking in the store is slow. */
    rotational: z.boolean().default(false),
    /** What clients and operators are told of it; one line. */
    description: descriptionSchema.default(''),
    /** Who may use the disk: any rule suffices; an empty list stands for this machine. */
    allow: z.array(ruleSchema).max(ACCESS_RULES_MAX).default([]),
    /** The operator's intent. */
    attached: z.boolean(),
    /** What the disk shows while it is offline; null when it was online last. */
    offline: offlineSchema.nullable(),
    createdAt: z.iso.datetime(),
  })
  .refine((record) => record.sizeBytes % record.sectorSizeBytes === 0, {
    path: ['sizeBytes'],
    error: 'expected a multiple of sectorSizeBytes',
  });

export type DiskRecord = z.infer<typeof diskRecordSchema>;

/** Where the disk's data begins in its store: after one header area, or two. */
export function dataOffsetBytesOf({ double }: { double: boolean }): number {
  return double ? 2 * DATA_OFFSET_BYTES : DATA_OFFSET_BYTES;
}

/** Throws ERR_DISK_OPTION naming the value and what it should be; returns the sector size. */
export function validateGeometry(
  disk: string,
  { sizeBytes, sectorSizeBytes }: { sizeBytes: number; sectorSizeBytes: number },
): 512 | 4096 {
  const refuse = (what: string, actual: number, expected: string): never => {
    throw new KeyholdError(
      codes.ERR_DISK_OPTION,
      `creating disk ${disk}: ${what} is ${actual}, expected ${expected}`,
      { fields: { disk, actual, expected } },
    );
  };
  if (sectorSizeBytes !== 512 && sectorSizeBytes !== 4096) {
    return refuse('sector size', sectorSizeBytes, '512 or 4096 bytes');
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes > DISK_BYTES_MAX) {
    refuse('size', sizeBytes, `1 to ${DISK_BYTES_MAX} bytes`);
  }
  if (sizeBytes % sectorSizeBytes !== 0) {
    refuse('size', sizeBytes, `a multiple of the sector size ${sectorSizeBytes}`);
  }
  return sectorSizeBytes;
}

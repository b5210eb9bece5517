// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';

/* Fields that the schemas of the admin API have in common. */

/** A name here is only bounded; the set and disk services say which characters it may have. */
export const NAME_LENGTH_MAX = 255;
export const URL_LENGTH_MAX = 2048;
export const PATH_LENGTH_MAX = 4095;
/** More than a rule, or the list of a disk, may have; so that no request is large. */
export const RULE_LENGTH_MAX = 1024;
export const RULES_MAX = 64;
/** More than a description may have; so that the answer to a longer one names both lengths. */
export const DESCRIPTION_LENGTH_MAX = 1024;
/** 30 days: longer than any sensible probe interval, lease or suspend timeout. */
export const DURATION_MS_MAX = 30 * 24 * 3_600_000;

export const name = z.string().min(1).max(NAME_LENGTH_MAX);
export const durationMs = z.int().min(1).max(DURATION_MS_MAX);
export const seconds = z.number().min(0);
export const count = z.int().min(0);
export const time = z.iso.datetime();
/** Rules are only bounded here; the disk service reads them. */
export const rules = z.array(z.string().max(RULE_LENGTH_MAX)).max(RULES_MAX);
export const sectorSizeBytes = z.literal([512, 4096]);

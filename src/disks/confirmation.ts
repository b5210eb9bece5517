// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { quoteName } from '../base/names.js';
import { codes } from './errors.js';

/** Throws ERR_DISK_CONFIRMATION unless the name of the disk was given once more. */
export function assertConfirmed(doing: string, disk: string, confirmation: string): void {
  if (confirmation === disk) return;
  throw new KeyholdError(
    codes.ERR_DISK_CONFIRMATION,
    `${doing} ${disk}: confirmed ${quoteName(confirmation)}, expected ${quoteName(disk)}`,
    { fields: { disk } },
  );
}

// SPDX-License-Identifier: Apache-2.0
import type { ExportDirectory, ExportInfo, ExportRefusal } from './exports.js';
import type { OptionBudget } from './limits.js';
import type { OptionContext } from './option-handler.js';
import { REPLY_ERROR } from './protocol.js';

/** The export of a name; the empty name means the only export there is. */
export function findExport(
  { exports, budget }: { readonly exports: ExportDirectory; readonly budget: OptionBudget },
  name: string,
): ExportInfo | ExportRefusal {
  if (name !== '') return exports.find(name);
  const tooOften = budget.takeDefaultLookup();
  if (tooOften !== undefined) return { refused: 'unknown', text: tooOften };
  const all = exports.list();
  const only = all[0];
  if (all.length === 1 && only !== undefined) return exports.find(only.name);
  return {
    refused: 'unknown',
    text: `there is no default export: ${all.length} exports are served, expected exactly 1`,
  };
}

/** An offline disk is refused with its reason; what a peer may not see does not exist. */
export function refuseExport({ refused, text }: ExportRefusal, context: OptionContext): void {
  const error = refused === 'offline' ? REPLY_ERROR.POLICY : REPLY_ERROR.UNKNOWN;
  context.replyError(error, text);
}

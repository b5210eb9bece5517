// SPDX-License-Identifier: Apache-2.0

/** How replies look in transmission. */
export type ReplyKind = 'simple' | 'structured' | 'extended';

/** The only metadata context there is; its id is the same on every connection. */
export const BASE_ALLOCATION = { name: 'base:allocation', id: 1 } as const;

/** What options have agreed on so far; all of it is forgotten at STARTTLS. */
export interface Agreement {
  structuredReplies: boolean;
  /** Once agreed, it comes before structured replies. */
  extendedHeaders: boolean;
  /** The disk for which the last SET_META_CONTEXT selected base:allocation. */
  allocationOf: string | null;
}

export function newAgreement(): Agreement {
  return { structuredReplies: false, extendedHeaders: false, allocationOf: null };
}

export function replyKind(agreed: Agreement): ReplyKind {
  if (agreed.extendedHeaders) return 'extended';
  return agreed.structuredReplies ? 'structured' : 'simple';
}

/** The id of base:allocation if it was selected for exactly this disk. */
export function allocationContextId(agreed: Agreement, exportName: string): number | null {
  return agreed.allocationOf === exportName ? BASE_ALLOCATION.id : null;
}

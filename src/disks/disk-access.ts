// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { quoteName } from '../base/names.js';
import type { Peer } from '../nbd/peer.js';
import { type Admission, createAdmission } from './access.js';
import { ACCESS_RULES_MAX, formatAccessRule, parseAccessRule } from './access-rule.js';
import { codes } from './errors.js';

/** A change of an allow list. Applied in the order in which it stands here. */
export interface AccessChange {
  readonly clear?: boolean;
  readonly remove?: readonly string[];
  readonly add?: readonly string[];
}

/**
 * The rules after a change, each in its one spelling. A rule that is there already is not added
 * again. Throws ERR_ACCESS_RULE for a rule that cannot be read and for too many of them, and
 * ERR_ACCESS_RULE_UNKNOWN for one to remove that is not there.
 */
export function changeRules(
  current: readonly string[],
  { disk, clear = false, remove = [], add = [] }: AccessChange & { readonly disk: string },
): string[] {
  const rules = new Set(clear ? [] : current);
  const spell = (text: string): string => formatAccessRule(parseAccessRule(text));
  for (const rule of remove.map(spell)) {
    if (rules.delete(rule)) continue;
    throw new KeyholdError(
      codes.ERR_ACCESS_RULE_UNKNOWN,
      `removing a rule of disk ${disk}: the list has no rule ${quoteName(rule)}`,
      { fields: { disk, rule } },
    );
  }
  for (const rule of add.map(spell)) rules.add(rule);
  if (rules.size > ACCESS_RULES_MAX) {
    throw new KeyholdError(
      codes.ERR_ACCESS_RULE,
      `disk ${disk} would have ${rules.size} rules, expected at most ${ACCESS_RULES_MAX}`,
      { fields: { disk, actual: rules.size, expected: ACCESS_RULES_MAX } },
    );
  }
  return [...rules];
}

/**
 * The allow list of one disk as it is in force.
 *
 * The order of a change is the safe one for widening and for shrinking: while the new list is being
 * written a newcomer must be admitted by the old list and the new one. So nobody gets in by a rule
 * that a crash could forget, and nobody new gets in by one that is on its way out. Sessions are
 * judged by the list that is durable, since closing them cannot be taken back.
 */
export class DiskAccess {
  #admits: Admission;
  #coming: Admission | undefined;

  constructor(allow: readonly string[]) {
    this.#admits = admissionOf(allow);
  }

  admitsNewcomer(peer: Peer): boolean {
    if (this.#coming !== undefined && !this.#coming(peer)) return false;
    return this.#admits(peer);
  }

  admitsSession(peer: Peer): boolean {
    return this.#admits(peer);
  }

  /** `save` writes the record with the new list. If it fails the old list stays in force. */
  async change(allow: readonly string[], save: () => Promise<void>): Promise<void> {
    const coming = admissionOf(allow);
    this.#coming = coming;
    try {
      await save();
      this.#admits = coming;
    } finally {
      this.#coming = undefined;
    }
  }
}

function admissionOf(allow: readonly string[]): Admission {
  return createAdmission(allow.map(parseAccessRule));
}

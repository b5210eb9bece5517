// SPDX-License-Identifier: Apache-2.0
import type { $ZodIssue, $ZodType, $ZodTypes } from 'zod/v4/core';
import { nearestName } from './nearest.js';

/** One finding of a schema in the house style: where, and both sides of the comparison. */
export interface SchemaIssue {
  /** `nbd.listen[0]`; empty for the document itself. */
  readonly path: string;
  readonly message: string;
}

/** More findings than this help nobody, and the list travels in errors. */
const ISSUES_MAX = 20;
const ACTUAL_LENGTH_MAX = 60;

/**
 * Turns the findings of `schema` on `value` into messages; an unknown field is reported with the
 * nearest field that the schema knows at that place. Repeats short values: for documents without
 * secrets.
 */
export function describeIssues(
  schema: $ZodType,
  value: unknown,
  issues: readonly $ZodIssue[],
): SchemaIssue[] {
  return issues.flatMap((issue) => describeIssue(schema, value, issue)).slice(0, ISSUES_MAX);
}

/** `a.b: message; c: message`. */
export function formatIssues(issues: readonly SchemaIssue[]): string {
  return issues
    .map(({ path, message }) => (path === '' ? message : `${path}: ${message}`))
    .join('; ');
}

function describeIssue(schema: $ZodType, value: unknown, issue: $ZodIssue): SchemaIssue[] {
  if (issue.code === 'unrecognized_keys') {
    const known = [...new Set(schemasAt(schema, issue.path).flatMap(fieldNames))];
    return issue.keys.map((key) => ({
      path: formatPath([...issue.path, key]),
      message: `unknown field${suggestion(key, known)}`,
    }));
  }
  const path = formatPath(issue.path);
  const actual = valueAt(value, issue.path);
  if (issue.code === 'invalid_type' && actual === undefined) {
    return [{ path, message: `missing: expected ${issue.expected}` }];
  }
  if (issue.code === 'invalid_union' && issue.discriminator !== undefined) {
    const expected = discriminatorValues(schema, issue.path);
    return [{ path, message: `expected one of ${expected.join(', ')}, got ${show(actual)}` }];
  }
  // A refinement says so itself where a value may carry a password.
  if (issue.code === 'custom' && issue.params?.['hideValue'] === true) {
    return [{ path, message: issue.message }];
  }
  const text = issue.message.replace(/^Invalid (input|option|string): /, '');
  const lowerCase = text.charAt(0).toLowerCase() + text.slice(1);
  const named = /(received|got) /.test(lowerCase);
  return [{ path, message: named ? lowerCase : `${lowerCase}, got ${show(actual)}` }];
}

function suggestion(key: string, known: readonly string[]): string {
  // Of a union, another member has it.
  if (known.includes(key)) return ' of this kind, though one of another';
  const nearest = nearestName(key, known);
  if (nearest !== undefined) return `, did you mean ${nearest}?`;
  return known.length === 0 ? '' : `, expected one of ${[...known].sort().join(', ')}`;
}

function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'bigint' ? String(inner) : inner,
  );
  return text.length <= ACTUAL_LENGTH_MAX ? text : `${text.slice(0, ACTUAL_LENGTH_MAX)}…`;
}

function formatPath(path: readonly PropertyKey[]): string {
  return path
    .map((part, index) => {
      if (typeof part === 'number') return `[${part}]`;
      return index === 0 ? String(part) : `.${String(part)}`;
    })
    .join('');
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  let current = value;
  for (const part of path) {
    if (typeof current !== 'object' || current === null) return undefined;
    current = (current as Record<PropertyKey, unknown>)[part];
  }
  return current;
}

/** The object schemas that may stand at `path`: several where a union leaves it open. */
function schemasAt(schema: $ZodType, path: readonly PropertyKey[]): $ZodType[] {
  const [part, ...rest] = path;
  const here = unwrap(schema);
  if (part === undefined) return here;
  return here.flatMap((one) => {
    const { def } = (one as $ZodTypes)._zod;
    if (def.type === 'object') {
      const child = def.shape[String(part)];
      return child === undefined ? [] : schemasAt(child, rest);
    }
    if (def.type === 'record') return schemasAt(def.valueType, rest);
    if (def.type === 'array') return schemasAt(def.element, rest);
    return [];
  });
}

/** Looks through optional, default, nullable, pipes and unions. */
function unwrap(schema: $ZodType): $ZodType[] {
  const { def } = (schema as $ZodTypes)._zod;
  if (def.type === 'pipe') return unwrap(def.in);
  if (def.type === 'union') return def.options.flatMap(unwrap);
  return 'innerType' in def ? unwrap(def.innerType) : [schema];
}

function fieldNames(schema: $ZodType): string[] {
  const { def } = (schema as $ZodTypes)._zod;
  return def.type === 'object' ? Object.keys(def.shape) : [];
}

function discriminatorValues(schema: $ZodType, path: readonly PropertyKey[]): string[] {
  const key = path.at(-1);
  return schemasAt(schema, path.slice(0, -1)).flatMap((option) => {
    const { def } = (option as $ZodTypes)._zod;
    const field = def.type === 'object' && key !== undefined ? def.shape[String(key)] : undefined;
    return field === undefined ? [] : [...(field._zod.values ?? [])].map(String);
  });
}

// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { failureSchema } from './own-shapes.js';
import { JSON_SHAPES, type JsonShape } from './shapes.js';

/* docs/JSON.md: every command's shape as one would write it as a TypeScript type. */

interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly format?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly description?: string;
}

const INTRODUCTION = `# JSON by command

Made from the schemas that the admin API answers with, and from those of the CLI's own output, by
\`UPDATE_GOLDEN=1 npx tap test/cli/json.test.ts\`; a test compares the two, and another holds the
output of every command against its shape.

With \`--json\` a command prints one JSON document on standard output and nothing else there,
indented for people; where it says *a line each*, one object a line, as they come. A command that
fails prints one line on standard error instead (\`Failure\`), and exits with the code of its kind.
Nothing is coloured, and neither progress nor the next command is told.

What is promised: members that are listed stay, with their meaning and type. Members and words of
an enumeration may be added in any version: read what you know and ignore the rest. Times are ISO
8601 in UTC, \`…Seconds\` and \`…Ms\` are what they say, sizes are bytes. \`?\` marks a member that
may be absent.

\`keyhold serve\` speaks NBD on standard output and takes no \`--json\`.
`;

export function renderJsonPage(): string {
  const named = new Map<string, string>();
  const commands = Object.entries(JSON_SHAPES).map(([command, shapes]) => {
    const parts = shapes.map((shape) => renderShape(shape, named));
    return `### keyhold ${command}\n\n${parts.join('\n\n')}\n`;
  });
  const failure = block(typeOf(failureSchema, named));
  const types = [...named].sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    INTRODUCTION,
    '## Commands\n',
    ...commands,
    `## Failure\n\n${failure}\n`,
    '## Types\n',
    ...types.map(([name, text]) => `### ${name}\n\n${block(text)}\n`),
  ].join('\n');
}

function renderShape({ schema, when, lines }: JsonShape, named: Map<string, string>): string {
  const remarks = [when, lines === true ? 'a line each' : undefined].filter(
    (text) => text !== undefined,
  );
  const head = remarks.length === 0 ? '' : `${capital(remarks.join('; '))}:\n\n`;
  const type = typeOf(schema, named);
  const isName = /^\w+$/.test(type);
  return `${head}${isName ? `[${type}](#${type.toLowerCase()})` : block(type)}`;
}

function block(text: string): string {
  return `\`\`\`ts\n${text}\n\`\`\``;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The type of a schema; those with an id by their name, which gets an entry of its own. */
function typeOf(schema: z.ZodType, named: Map<string, string>): string {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Schema & {
    id?: string;
  };
  for (const [id, definition] of Object.entries(json.$defs ?? {})) {
    if (!named.has(id)) named.set(id, write(definition, ''));
  }
  const id = schema.meta()?.id;
  if (id === undefined) return write(json, '');
  if (!named.has(id)) named.set(id, write({ ...json, ...rootOf(json) }, ''));
  return id;
}

/** A schema that refers to itself stands whole among its own definitions. */
function rootOf(json: Schema): Schema {
  const name = json.$ref === undefined ? undefined : nameOf(json.$ref);
  return (name === undefined ? undefined : json.$defs?.[name]) ?? {};
}

function nameOf(reference: string): string {
  return reference.split('/').at(-1) ?? '';
}

function write(schema: Schema, indent: string): string {
  if (schema.$ref !== undefined && schema.properties === undefined) {
    return schema.$ref === '#' ? 'CommandLine' : nameOf(schema.$ref);
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((one) => JSON.stringify(one)).join(' | ');
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.map((one) => write(one, indent)).join(' | ');
  if (schema.type === 'array') {
    const item = write(schema.items ?? {}, indent);
    return / \| /.test(item) && !item.startsWith('{') ? `(${item})[]` : `${item}[]`;
  }
  if (schema.type === 'object') return writeObject(schema, indent);
  if (schema.format === 'date-time') return 'time';
  return typeof schema.type === 'string' ? schema.type : 'any';
}

function writeObject(schema: Schema, indent: string): string {
  const { properties = {}, required = [], additionalProperties } = schema;
  const inner = `${indent}  `;
  const members = Object.entries(properties).map(([name, member]) => {
    const mark = required.includes(name) ? '' : '?';
    return `${inner}${name}${mark}: ${write(member, inner)}\n`;
  });
  const isOpen = typeof additionalProperties === 'object';
  if (isOpen && members.length === 0) {
    return `{ [name: string]: ${write(additionalProperties, inner)} }`;
  }
  if (isOpen) members.push(`${inner}[name: string]: ${write(additionalProperties, inner)}\n`);
  return members.length === 0 ? '{}' : `{\n${members.join('')}${indent}}`;
}

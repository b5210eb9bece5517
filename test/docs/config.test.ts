// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { test } from 'tap';
import { z } from 'zod';
import { configSchema } from '../../src/config/schema.js';
import { identityConfigSchema } from '../../src/vault/identity-config.js';

const page = await readFile(new URL('../../docs/ARCHITECTURE.md', import.meta.url), 'utf8');

interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly oneOf?: readonly JsonSchema[];
  readonly const?: string;
}

function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  return z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as JsonSchema;
}

void test('every field of the configuration is in the table', (t) => {
  for (const [section, schema] of Object.entries(jsonSchemaOf(configSchema).properties ?? {})) {
    if (section === 'identity') continue;
    const fields = Object.keys(schema.properties ?? {});
    const names = fields.length === 0 ? [section] : fields.map((name) => `[${section}] ${name}`);
    for (const name of names) t.ok(page.includes(`\n| \`${name}\` |`), name);
  }
  t.end();
});

void test('every kind of identity is in its table, with its fields', (t) => {
  const [, authority = ''] = /\*authority\*, all optional:([^]*?)\n\n/.exec(page) ?? [];
  for (const { properties = {} } of jsonSchemaOf(identityConfigSchema).oneOf ?? []) {
    const kind = properties['kind']?.const ?? '';
    const row = page.split('\n').find((line) => line.startsWith(`| \`${kind}\` |`)) ?? '';
    const described = row.includes('authority |') ? row + authority : row;
    for (const field of Object.keys(properties)) {
      if (field === 'kind') continue;
      t.ok(described.includes(`\`${field}\``), `${kind}: ${field}`);
    }
  }
  t.end();
});

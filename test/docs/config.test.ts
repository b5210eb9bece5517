// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { test } from 'tap';
import { z } from 'zod';
import { CONFIG_KEYS } from '../../src/config/changes.js';
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

void test('every field of the configuration is live or needs a restart', (t) => {
  const fields = Object.entries(jsonSchemaOf(configSchema).properties ?? {}).flatMap(
    ([section, { properties = {} }]) => {
      const names = Object.keys(properties);
      return names.length === 0 ? [section] : names.map((name) => `${section}.${name}`);
    },
  );
  t.same(Object.keys(CONFIG_KEYS).sort(), fields.sort());
  t.end();
});

void test('the page says of each whether a reload can change it', (t) => {
  for (const [when, row] of [
    ['live', 'at a reload'],
    ['restart', 'at a restart'],
  ] as const) {
    const [, list = ''] = new RegExp(`^\\| ${row} \\| (.*) \\|$`, 'm').exec(page) ?? [];
    const named = [...list.matchAll(/`(?:\[(\w+)(?:\.NAME)?\] ?)?(\w*)`/g)].map(
      ([, section, field]) => [section, field].filter(Boolean).join('.'),
    );
    const keys = Object.entries(CONFIG_KEYS).filter(([, key]) => key.when === when);
    t.same(named.sort(), keys.map(([name]) => name).sort(), row);
  }
  t.end();
});

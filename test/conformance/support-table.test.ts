// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import { t as file, test } from 'tap';
import { COMMAND_PROBES, FLAG_PROBES, OPTION_PROBES, type Probe, TLS_PROBES } from './probe.js';
import { keyhold, nbdkit, nbdServer, qemuNbd } from './targets.js';
import { tlsTargets } from './tls-targets.js';

/*
 * The tables of docs/NBD-SUPPORT.md are what the running servers answer;
 * `UPDATE_GOLDEN=1 npx tap test/conformance/support-table.test.ts` writes them anew.
 */

const page = new URL('../../docs/NBD-SUPPORT.md', import.meta.url);
const targets = [
  await keyhold(file),
  await nbdkit(file),
  await qemuNbd(file),
  await nbdServer(file),
];
const secure = await tlsTargets(file);

async function render<T extends { readonly name: string }>(
  what: string,
  probes: Readonly<Record<string, Probe<T>>>,
  servers: readonly T[],
): Promise<string> {
  const lines = [
    `| ${what} | ${servers.map(({ name }) => name).join(' | ')} |`,
    `|---|${servers.map(() => '---|').join('')}`,
  ];
  for (const [name, probe] of Object.entries(probes)) {
    const found = await Promise.all(servers.map((server) => probe(server)));
    lines.push(`| ${name} | ${found.map((yes) => (yes ? 'yes' : '–')).join(' | ')} |`);
  }
  return lines.join('\n');
}

const sections: Readonly<Record<string, () => Promise<string>>> = {
  options: () => render('negotiation', OPTION_PROBES, targets),
  flags: () => render('transmission flag', FLAG_PROBES, targets),
  commands: () => render('transmission', COMMAND_PROBES, targets),
  tls: () => render('TLS', TLS_PROBES, secure),
};

for (const [section, table] of Object.entries(sections)) {
  void test(`docs/NBD-SUPPORT.md tells what the servers do: ${section}`, async (t) => {
    const [begin, end] = [`<!-- probed: ${section} -->\n`, `<!-- end: ${section} -->`];
    const text = readFileSync(page, 'utf8');
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf(end);
    t.ok(from >= begin.length && to >= from, 'the page has both marks');
    const rendered = `${await table()}\n`;
    if (process.env['UPDATE_GOLDEN'] === '1') {
      writeFileSync(page, `${text.slice(0, from)}${rendered}${text.slice(to)}`);
    } else {
      t.equal(text.slice(from, to), rendered);
    }
  });
}

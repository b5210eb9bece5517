// SPDX-License-Identifier: Apache-2.0
import { readFileSync, writeFileSync } from 'node:fs';
import { t as file, test } from 'tap';
import { COMMAND_PROBES, FLAG_PROBES, OPTION_PROBES, type Probe } from './probe.js';
import { keyhold, nbdkit, nbdServer, qemuNbd } from './targets.js';

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

async function render(what: string, probes: Readonly<Record<string, Probe>>): Promise<string> {
  const lines = [
    `| ${what} | ${targets.map(({ name }) => name).join(' | ')} |`,
    `|---|${targets.map(() => '---|').join('')}`,
  ];
  for (const [name, probe] of Object.entries(probes)) {
    const found = await Promise.all(targets.map((target) => probe(target)));
    lines.push(`| ${name} | ${found.map((yes) => (yes ? 'yes' : '–')).join(' | ')} |`);
  }
  return lines.join('\n');
}

const sections: Readonly<Record<string, readonly [string, Readonly<Record<string, Probe>>]>> = {
  options: ['negotiation', OPTION_PROBES],
  flags: ['transmission flag', FLAG_PROBES],
  commands: ['transmission', COMMAND_PROBES],
};

for (const [section, [what, probes]] of Object.entries(sections)) {
  void test(`docs/NBD-SUPPORT.md tells what the servers do: ${section}`, async (t) => {
    const [begin, end] = [`<!-- probed: ${section} -->\n`, `\n<!-- end: ${section} -->`];
    const text = readFileSync(page, 'utf8');
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf(end);
    t.ok(from >= begin.length && to > from, 'the page has both marks');
    const table = await render(what, probes);
    if (process.env['UPDATE_GOLDEN'] === '1') {
      writeFileSync(page, `${text.slice(0, from)}${table}${text.slice(to)}`);
    } else {
      t.equal(text.slice(from, to), table);
    }
  });
}

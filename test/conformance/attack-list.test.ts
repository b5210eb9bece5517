// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';

/* The CVE record of NBD servers: every number is the name of a test, and no test names another. */

const OF_SERVERS = [
  ...['2005-3534', '2011-0530', '2011-1925', '2013-6410', '2013-7441', '2015-0847'], // nbd-server
  ...['2022-26495', '2022-26496'], // nbd-server
  ...['2017-7539', '2017-9524', '2017-15118', '2017-15119', '2020-10761', '2024-7409'], // qemu
  ...['2019-14850', '2019-14851', '2021-3716', '2025-47711', '2025-47712'], // nbdkit
];

/**
 * Mistakes of clients (qemu, libnbd, nbdcopy, the kernel), which a server cannot make. What some of
 * them fell for is checked of every reply in these tests: no odd chunk (nbd-chunk-rules.ts).
 */
const OF_CLIENTS = [
  ...['2017-2630', '2019-14842', '2021-20286', '2022-0485', '2023-5215', '2023-5871'],
  ...['2024-7383', '2025-14946', '2021-3348', '2025-40080'],
];

const root = new URL('..', import.meta.url).pathname;

/** CVE numbers in the names of tests. */
async function namedByTests(): Promise<Set<string>> {
  const files = await readdir(root, { recursive: true });
  const numbers = new Set<string>();
  for (const file of files.filter((name) => name.endsWith('.test.ts'))) {
    const text = await readFile(join(root, file), 'utf8');
    for (const [, title = ''] of text.matchAll(/\btest\(\s*(['`].*?['`]),\s/gs)) {
      for (const [, number = ''] of title.matchAll(/CVE-(\d{4}-\d+)/g)) numbers.add(number);
    }
  }
  return numbers;
}

void test('every CVE of a server is the name of a test', async (t) => {
  const named = await namedByTests();
  for (const number of OF_SERVERS) t.ok(named.has(number), `CVE-${number}`);
});

void test('every CVE that is the name of a test is on the list', async (t) => {
  const listed = new Set([...OF_SERVERS, ...OF_CLIENTS]);
  const unknown = [...(await namedByTests())].filter((number) => !listed.has(number));
  t.strictSame(unknown, []);
});

void test('no CVE is listed twice', (t) => {
  const all = [...OF_SERVERS, ...OF_CLIENTS];
  t.strictSame([...new Set(all)], all);
  t.end();
});

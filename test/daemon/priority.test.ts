// SPDX-License-Identifier: Apache-2.0
import { readdir, readFile } from 'node:fs/promises';
import { constants, getPriority } from 'node:os';
import { type Test, test } from 'tap';
import { Stack } from '../support/stack.js';

/** Nice values of the control plane's thread and of the daemon's other threads. */
async function niceValues(stack: Stack): Promise<{ control: number; others: number[] }> {
  const pid = await stack.daemonPid();
  const niceOf = async (thread: string): Promise<number> => {
    const stat = await readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[16]); // field 19 of proc_pid_stat(5), the third stands first here
  };
  const threads = await readdir(`/proc/${pid}/task`);
  const others = threads.filter((thread) => thread !== String(pid));
  return { control: await niceOf(String(pid)), others: await Promise.all(others.map(niceOf)) };
}

async function started(t: Test, through: readonly string[] = []): Promise<Stack> {
  const stack = await Stack.start({ through });
  t.teardown(() => stack.stop());
  return stack;
}

const mayRaise = process.getuid?.() === 0;
/** Tests may run at a priority of their own. */
const inherited = getPriority();

void test('the control plane goes before the shards if the daemon may say so', async (t) => {
  const { control, others } = await niceValues(await started(t));
  t.equal(control, mayRaise ? constants.priority.PRIORITY_HIGH : inherited);
  t.ok(
    others.every((nice) => nice === inherited),
    'the shards are as they were',
  );
});

void test('a daemon that may not say so serves all the same', async (t) => {
  const stack = await started(t, ['setpriv', '--bounding-set', '-sys_nice', '--']);
  await stack.createDisk({ name: 'd', size: '1M' });
  t.equal((await stack.disk('d')).state, 'online');
  t.equal((await niceValues(stack)).control, inherited);
});

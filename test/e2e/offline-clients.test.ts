// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'tap';
import { endProcess, eventually, run } from '../support/process.js';
import { Stack } from '../support/stack.js';

/** Well below the second of quiet that a cut waits for. */
const PAUSE_MS = 50;

/**
 * A program with one open connection that is asked to read again and again, and what came of it:
 * each outcome that was not the one before.
 */
class Asker {
  readonly outcomes: string[] = [];
  answers = 0;
  readonly #child: ChildProcess;
  readonly #question: string;
  readonly #meaning: (answer: string) => string;
  #heard = '';
  #asking = false;
  #round: Promise<void> = Promise.resolve();

  constructor(
    command: readonly [string, ...string[]],
    dialogue: { question: string; meaning: (answer: string) => string },
  ) {
    const [program, ...args] = command;
    // The distribution's Python: libnbd's module belongs to it.
    const env = { ...process.env, PATH: '/usr/bin:/bin', LC_ALL: 'C' };
    this.#child = spawn(program, args, { env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.#heard += chunk.toString()));
    this.#child.stdin?.on('error', () => undefined); // it has ended; no answer comes any more
    this.#question = dialogue.question;
    this.#meaning = dialogue.meaning;
  }

  get last(): string | undefined {
    return this.outcomes.at(-1);
  }

  start(): void {
    this.#asking = true;
    this.#round = this.#ask();
  }

  /** Falls silent, and keeps the connection. */
  async pause(): Promise<void> {
    this.#asking = false;
    await this.#round;
  }

  async end(): Promise<void> {
    this.#asking = false;
    await endProcess(this.#child, 'SIGKILL');
  }

  async #ask(): Promise<void> {
    await this.#prompt();
    while (this.#asking && this.#child.exitCode === null) {
      this.#child.stdin?.write(`${this.#question}\n`);
      const outcome = this.#meaning(await this.#prompt());
      this.answers += 1;
      if (outcome !== this.last) this.outcomes.push(outcome);
      await delay(PAUSE_MS);
    }
    this.#heard = `${PROMPT}${this.#heard}`; // for whoever asks next
  }

  /** What the program says before it waits for the next line. */
  async #prompt(): Promise<string> {
    for (;;) {
      const at = this.#heard.indexOf(PROMPT);
      if (at >= 0) {
        const said = this.#heard.slice(0, at);
        this.#heard = this.#heard.slice(at + PROMPT.length);
        return said;
      }
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) return 'ended';
      await Promise.race([
        once(this.#child.stdout ?? this.#child, 'data'),
        once(this.#child, 'close'),
      ]);
    }
  }
}

const PROMPT = 'qemu-io> ';

function nbdsh(uri: string): Asker {
  const script = [
    'import errno, sys',
    `h.connect_uri(${JSON.stringify(uri)})`,
    `print(${JSON.stringify(PROMPT)}, end="", flush=True)`,
    'for line in sys.stdin:',
    '    try:',
    '        h.pread(512, 0)',
    '        print("ok")',
    '    except nbd.Error as error:',
    '        print(error.errno)',
    `    print(${JSON.stringify(PROMPT)}, end="", flush=True)`,
  ];
  const meaning = (answer: string): string => answer.trim();
  return new Asker(['nbdsh', '-c', script.join('\n')], { question: 'read', meaning });
}

function qemuIo(uri: string): Asker {
  const meaning = (answer: string): string => {
    if (/^read 512\/512 bytes/m.test(answer)) return 'ok';
    // What C calls ESHUTDOWN.
    if (answer.includes('Cannot send after transport endpoint shutdown')) return 'ESHUTDOWN';
    return answer.trim();
  };
  return new Asker(['qemu-io', '-f', 'raw', uri], { question: 'read 0 512', meaning });
}

void test('clients that stay connected while their disk is suspended and offline', async (t) => {
  const stack = await Stack.start();
  t.teardown(() => stack.stop());
  await stack.reconfigure((text) => `${text}\n[disks]\nlinger = "1s"\n`);
  const setArgs = ['--probe-interval', '1s', '--lease', '4s', '--suspend-timeout', '10m'];
  await stack.createDisk({ name: 'db', size: '1M', setArgs });
  const askers = [
    ['nbdsh', nbdsh(stack.uri('db'))],
    ['qemu-io', qemuIo(stack.uri('db'))],
  ] as const;
  for (const [, asker] of askers) {
    t.teardown(() => asker.end());
    asker.start();
  }
  const untilAll = async (outcome: string): Promise<void> => {
    for (const [name, asker] of askers) {
      await eventually(`${name} gets ${outcome}`, () => asker.last === outcome);
    }
  };
  const untilState = async (state: string): Promise<void> =>
    eventually(`the disk is ${state}`, async () => (await stack.disk('db')).state === state);
  await untilAll('ok');

  await t.test(
    'suspended: what they ask waits, and is answered later without an error',
    async (t) => {
      await stack.ok('vault', 'trouble', 'drop');
      await untilState('suspended');
      await delay(200); // an answer that had left before may still be on its way
      const before = askers.map(([, { answers }]) => answers);
      await delay(1500);
      t.strictSame(
        askers.map(([, { answers }]) => answers),
        before,
      );
      t.equal((await stack.disk('db')).clients, askers.length);
      await stack.ok('vault', 'trouble', 'none');
      for (const [index, [name, asker]] of askers.entries()) {
        await eventually(`${name} goes on`, () => asker.answers > (before[index] ?? 0) + 5);
      }
      await untilState('online');
      for (const [name, { outcomes }] of askers) t.strictSame(outcomes, ['ok'], name);
    },
  );

  await t.test('offline: they read ESHUTDOWN on the connections that they have', async (t) => {
    await stack.ok('vault', 'disable', 'db-key');
    await untilAll('ESHUTDOWN');
    for (const [name, { outcomes }] of askers) t.strictSame(outcomes, ['ok', 'ESHUTDOWN'], name);
  });

  await t.test('offline: a new connection is refused with the reason', async (t) => {
    const env = { LIBNBD_DEBUG: '1' }; // only then does it print what the server said
    const info = await run('nbdinfo', [stack.uri('db')], { env });
    t.not(info.status, 0);
    t.match(info.stderr, /server error message: .*export db is offline: key-disabled/);
    const image = await run('qemu-img', ['info', stack.uri('db')]);
    t.not(image.status, 0);
    t.match(image.stderr, /export db is offline: key-disabled/);
  });

  await t.test('past the linger: whoever asks is not cut off, and heals where it is', async (t) => {
    await delay(2500);
    t.equal((await stack.disk('db')).clients, askers.length);
    await stack.ok('vault', 'enable', 'db-key');
    await untilAll('ok');
    for (const [name, { outcomes }] of askers) {
      t.strictSame(outcomes, ['ok', 'ESHUTDOWN', 'ok'], name);
    }
  });

  await t.test('past the linger: whoever falls silent is cut off', async (t) => {
    await stack.ok('vault', 'disable', 'db-key');
    await untilAll('ESHUTDOWN');
    for (const [, asker] of askers) await asker.pause();
    t.equal((await stack.disk('db')).state, 'offline');
    await eventually('no client is left', async () => (await stack.disk('db')).clients === 0);
    for (const [name, asker] of askers) {
      asker.start();
      await eventually(`${name} has lost its connection`, () => asker.last !== 'ESHUTDOWN');
      t.not(asker.last, 'ok', name);
    }
  });

  await t.test('healed after the cut: who connects anew is served', async (t) => {
    await stack.ok('vault', 'enable', 'db-key');
    await untilState('online');
    t.equal((await run('nbdinfo', [stack.uri('db')])).status, 0);
  });
});

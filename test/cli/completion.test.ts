// SPDX-License-Identifier: Apache-2.0
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { run } from '../support/process.js';
import { createContext } from '../../src/cli/context.js';
import { createProgram } from '../../src/cli/program.js';
import { type CommandNode, flatten, readTree } from '../../src/cli/tree.js';
import { FakeAdmin } from './support/fake-admin.js';
import { captureIo, cli } from './support/run-cli.js';

/* The scripts in the shells that they are for. */

const main = new URL('../../dist/cli/main.js', import.meta.url).pathname;
const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

const tree: CommandNode = readTree(createProgram(createContext(captureIo().io)));
const nodes = flatten(tree);

interface Asked {
  readonly status: number | null;
  readonly words: readonly string[];
  readonly stderr: string;
}

/** A directory with `keyhold` as an installed command, and the scripts. */
class Shells {
  readonly dir: string;
  readonly fake: FakeAdmin;

  private constructor(dir: string, fake: FakeAdmin) {
    this.dir = dir;
    this.fake = fake;
  }

  static async create(t: { teardown(fn: () => unknown): unknown }): Promise<Shells> {
    const fake = await FakeAdmin.start();
    const dir = await mkdtemp(join(tmpdir(), 'keyhold-completion-'));
    t.teardown(async () => {
      await fake.stop();
      await rm(dir, { recursive: true, force: true });
    });
    const program = join(dir, 'keyhold');
    await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
    await chmod(program, 0o755);
    for (const shell of SHELLS) {
      const { stdout } = await cli(['completion', shell]);
      await writeFile(join(dir, `completion.${shell}`), stdout);
    }
    return new Shells(dir, fake);
  }

  /** What the shell offers after these words; the last one is the beginning of a word. */
  async ask(shell: Shell, words: readonly string[], socket = this.fake.socketPath): Promise<Asked> {
    const [command = '', ...args] = this.#commandOf(shell, words);
    const { status, stdout, stderr } = await run(command, args, {
      env: {
        PATH: `${this.dir}:${process.env['PATH'] ?? ''}`,
        KEYHOLD_SOCKET: socket,
        HOME: this.dir,
        XDG_CONFIG_HOME: this.dir,
      },
    });
    const offered = stdout.split('\n').map((line) => line.split('\t')[0] ?? '');
    // In zsh it is the system around the script that keeps to what was typed.
    const typed = shell === 'zsh' ? (words.at(-1) ?? '') : '';
    const fitting = offered.filter((word) => word !== '' && word.startsWith(typed));
    return { status, words: fitting.sort(), stderr };
  }

  #commandOf(shell: Shell, words: readonly string[]): string[] {
    const script = join(this.dir, `completion.${shell}`);
    const quoted = words.map((word) => `'${word}'`).join(' ');
    switch (shell) {
      case 'bash':
        return [
          ...['bash', '--norc', '-c'],
          `set -u; source '${script}'; COMP_WORDS=(keyhold ${quoted}); ` +
            `COMP_CWORD=${words.length}; _keyhold; printf '%s\\n' "\${COMPREPLY[@]}"`,
        ];
      case 'zsh':
        // What the completion system would do with what it is given, as far as words go.
        return [
          ...['zsh', '-f', '-c'],
          'compadd() { [[ $1 == -a ]] && print -l -- ${(P)2} || true; }\n' +
            '_describe() { print -l -- ${(P)argv[-1]%%:*}; }\n' +
            '_files() { print -- FILES; }\n' +
            `source '${script}'\n` +
            `words=(keyhold ${quoted}); CURRENT=${words.length + 1}; _keyhold\n`,
        ];
      case 'fish':
        return [
          ...['fish', '--no-config', '-c'],
          `source '${script}'; complete -C ${JSON.stringify(['keyhold', ...words].join(' '))}`,
        ];
    }
  }
}

void test('shell completion', async (t) => {
  const shells = await Shells.create(t);

  for (const shell of SHELLS) {
    await t.test(`${shell} offers every command at its place`, async (t) => {
      for (const node of nodes.filter(({ commands }) => commands.length > 0)) {
        const { words, stderr } = await shells.ask(shell, [...node.path, '']);
        const expected = node.commands.map(({ path }) => path.at(-1) ?? '').sort();
        t.strictSame(
          words.filter((word) => !word.startsWith('-')),
          expected,
          node.path.join(' '),
        );
        t.equal(stderr, '');
      }
    });

    await t.test(`${shell} offers the options of a command, and no others`, async (t) => {
      for (const path of ['disk create', 'set update', 'top', 'vault trouble', 'daemon', '']) {
        const words = path.split(' ').filter(Boolean);
        const node = nodes.find((one) => one.path.join(' ') === path);
        const expected = node?.options.map(({ long }) => long).sort();
        const asked = await shells.ask(shell, [...words, '--']);
        t.strictSame(asked.words, expected, path);
      }
    });

    await t.test(`${shell} offers the daemon's disks and sets, also behind options`, async (t) => {
      const disks = ['db01', 'demo', 'fresh'];
      t.strictSame((await shells.ask(shell, ['disk', 'show', ''])).words, disks);
      t.strictSame((await shells.ask(shell, ['disk', 'attach', '--json', ''])).words, disks);
      t.strictSame((await shells.ask(shell, ['events', '--disk', 'd'])).words, ['db01', 'demo']);
      t.strictSame((await shells.ask(shell, ['set', 'check', ''])).words, ['demo', 'ultra']);
      t.strictSame(
        (await shells.ask(shell, ['disk', 'create', 'x', '--size', '1G', '--set', 'u'])).words,
        ['ultra'],
      );
    });

    await t.test(`${shell} asks the daemon that --socket names`, async (t) => {
      const { socketPath } = shells.fake;
      const words = ['disk', 'show', '--socket', socketPath, 'db'];
      t.strictSame((await shells.ask(shell, words, '/none/x')).words, ['db01']);
    });

    await t.test(`${shell} is silent when the daemon is not there`, async (t) => {
      const asked = await shells.ask(shell, ['disk', 'show', ''], '/none/x');
      t.strictSame(asked.words, []);
      t.equal(asked.stderr, '');
    });

    await t.test(`${shell} offers the words that a value may be`, async (t) => {
      const modes = ['immediate', 'restart'];
      t.strictSame(
        (await shells.ask(shell, ['set', 'create', 's', '--on-revoke', ''])).words,
        modes,
      );
      t.strictSame((await shells.ask(shell, ['completion', ''])).words, [...SHELLS].sort());
    });

    await t.test(`${shell} offers no disk where a new one is named, and none twice`, async (t) => {
      t.strictSame((await shells.ask(shell, ['disk', 'create', ''])).words, []);
      t.strictSame((await shells.ask(shell, ['disk', 'show', 'demo', ''])).words, []);
    });

    await t.test(`${shell} does not take a value for a command`, async (t) => {
      const { words } = await shells.ask(shell, ['--socket', 'disk', 's']);
      t.ok(words.includes('set') && words.includes('status'), words.join(' '));
      t.notOk(words.includes('show'));
    });

    await t.test(`${shell} offers commands behind help`, async (t) => {
      t.ok((await shells.ask(shell, ['help', 'e'])).words.includes('events'));
    });
  }

  await t.test('bash puts together what readline takes apart', async (t) => {
    const joined = await shells.ask('bash', ['events', '--set', '=', 'u']);
    t.strictSame(joined.words, ['ultra']);
    t.strictSame((await shells.ask('bash', ['events', '--set', '='])).words, ['demo', 'ultra']);
    const url = ['set', 'create', 'x', '--key', 'https', ':', '//v/keys/k', '--on-revoke', 'i'];
    t.strictSame((await shells.ask('bash', url)).words, ['immediate']);
  });

  await t.test('bash completes files where files are meant', async (t) => {
    const { words } = await shells.ask('bash', ['audit', 'verify', `${shells.dir}/completion.b`]);
    t.strictSame(words, [`${shells.dir}/completion.bash`]);
  });

  await t.test('each script is sound for its shell', async (t) => {
    for (const shell of SHELLS) {
      const script = join(shells.dir, `completion.${shell}`);
      t.match(await run(shell, ['-n', script]), { status: 0, stderr: '' }, shell);
    }
  });
});

void test('completion --json prints the script too', async (t) => {
  const plain = await cli(['completion', 'bash']);
  const { stdout } = await cli(['completion', 'bash', '--json']);
  t.strictSame(JSON.parse(stdout), { shell: 'bash', script: plain.stdout });
});

void test('the hidden command for names is no command of the help', async (t) => {
  t.notMatch((await cli(['help'])).stdout, 'complete-names');
  t.notMatch((await cli(['completion', 'bash'])).stdout, /commands='[^']*complete-names/);
});

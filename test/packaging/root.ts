// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endProcess, run, runOk, type RunResult } from '../support/process.js';

export const repository = new URL('../../', import.meta.url).pathname;

/** Installs quickly: the root is forgotten anyway. */
export const DPKG = 'DEBIAN_FRONTEND=noninteractive dpkg --force-unsafe-io';

/** Builds the package of what is built in this repository; answers its file's name in `folder`. */
export async function buildPackage(folder: string): Promise<string> {
  await runOk('bash', ['packaging/deb/build', '--compression', 'none', '--output', folder], {
    cwd: repository,
    timeoutMs: 300_000,
  });
  const [name = ''] = await readdir(folder);
  return name;
}

/** What a root file system is made of, in a mount namespace that ends with the process. */
const SETUP = `
set -e
mount --make-rprivate /
mount -t tmpfs -o size=2g tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root" "$1/out"
mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay "$1/root"
mount -t tmpfs tmpfs "$1/root/run"
mount -t tmpfs -o mode=1777 tmpfs "$1/root/tmp"
mount --rbind /dev "$1/root/dev"
mount --bind "$2" "$1/root/mnt"
echo ready
exec sleep infinity
`;

/**
 * A copy of this machine's root file system that forgets: an overlay in a mount namespace of its
 * own, with an empty /run, so that nothing in it reaches this machine's services. Needs root.
 */
export class Root {
  readonly #keeper: ChildProcess;
  readonly #dir: string;

  private constructor(keeper: ChildProcess, dir: string) {
    this.#keeper = keeper;
    this.#dir = dir;
  }

  /** `folder` is seen as /mnt in there. */
  static async create(folder: string): Promise<Root> {
    const dir = await mkdtemp(join(tmpdir(), 'keyhold-root-'));
    const args = ['unshare', '--mount', 'sh', '-c', SETUP, 'setup', dir, folder];
    const keeper = spawn('setpriv', ['--pdeathsig=KILL', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let complaint = '';
    keeper.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    const ended = once(keeper, 'exit').then(() => {
      throw new Error(`no root file system: ${complaint}`);
    });
    await Promise.race([once(keeper.stdout, 'data'), ended]);
    ended.catch(() => undefined);
    return new Root(keeper, dir);
  }

  /**
   * Runs a shell script in there, without this machine's network and processes; what it started
   * ends with it. The loopback interface is up.
   */
  async run(script: string, { timeoutMs = 120_000 } = {}): Promise<RunResult> {
    const command = [
      ...this.enter,
      'unshare',
      ...['--pid', '--net', '--fork', '--kill-child', '--mount-proc=/proc'],
      `--root=${this.path}`,
      ...['sh', '-ec', `busybox ip link set lo up; cd /root\n${script}`],
    ];
    return run('env', [...LOGIN, ...command], { timeoutMs });
  }

  /** Where it lies for those who have entered its mount namespace. */
  get path(): string {
    return `${this.#dir}/root`;
  }

  /** The words that run a program of this machine in its mount namespace. */
  get enter(): readonly string[] {
    return ['nsenter', `--mount=/proc/${String(this.#keeper.pid)}/ns/mnt`];
  }

  async close(): Promise<void> {
    await endProcess(this.#keeper, 'SIGKILL');
    await rm(this.#dir, { recursive: true, force: true });
  }
}

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Arguments of `env`: of the environment only what a login has. */
export const LOGIN = ['-i', 'HOME=/root', 'LC_ALL=C', PATH];

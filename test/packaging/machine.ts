// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { endProcess, eventually, run, type RunResult } from '../support/process.js';
import { LOGIN, repository, Root } from './root.js';

/**
 * What makes a copy of this machine one that boots quickly: none of its services, none of what it
 * is told not to start, and no Node.js but the package's. It is nobody's first boot.
 */
const PREPARE = `
rm -rf "$(command -v node)" /usr/bin/node /usr/lib/node_modules ${repository}dist
rm -rf /etc/systemd/system/* /etc/rc?.d /usr/sbin/policy-rc.d
mkdir -p /var/log/journal
echo 6b6579686f6c642d746573742d6d6163 > /etc/machine-id
`;

/** The calls that Keyhold needs and nspawn refuses by itself. */
const CALLS = '@memlock memfd_secret io_uring_setup io_uring_enter io_uring_register';

const NSPAWN = [
  'systemd-nspawn',
  '--quiet',
  '--register=no',
  '--keep-unit',
  '--console=pipe',
  '--private-network',
  '--capability=CAP_IPC_LOCK,CAP_SYS_RESOURCE,CAP_SYS_NICE',
  `--system-call-filter=${CALLS}`,
];

const INIT = ['/lib/systemd/systemd', 'systemd.unit=multi-user.target'];

/** Why no machine can be booted here, or false; in CI it can, or the tests fail. */
export async function whyNoMachine(): Promise<string | false> {
  if (process.env['CI'] !== undefined) return false;
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync('/usr/bin/systemd-nspawn')) return 'needs the package systemd-container';
  const namespaces = ['--mount', '--pid', '--net', '--ipc', '--uts', '--cgroup', '--fork'];
  const tried = await run('unshare', [...namespaces, 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']);
  return tried.status === 0 ? false : `needs namespaces: ${tried.stderr.trim()}`;
}

/**
 * A copy of this machine's root file system in which systemd is process 1, in namespaces of its
 * own, with nothing of a network but the loopback interface. Needs root.
 */
export class Machine {
  readonly #root: Root;
  #nspawn: ChildProcess | undefined;
  /** What nspawn says; systemd itself says nothing here. */
  #complaint = '';
  #init = '';

  private constructor(root: Root) {
    this.#root = root;
  }

  /** `folder` is seen as /mnt in there. Rejects when not every unit could be started. */
  static async boot(folder: string): Promise<Machine> {
    const machine = new Machine(await Root.create(folder));
    try {
      const { status, stderr } = await machine.#root.run(PREPARE);
      if (status !== 0) throw new Error(`the root was not prepared: ${stderr}`);
      await machine.#start(folder);
    } catch (error) {
      await machine.close();
      throw error;
    }
    return machine;
  }

  /** Shuts down in order and boots again, with what the root has been made to since. */
  async reboot(folder: string): Promise<void> {
    const { status, stderr } = await this.run('systemctl --no-block poweroff');
    if (status !== 0) throw new Error(`no shutdown: ${stderr}`);
    await eventually('the machine is off', () => this.#nspawn?.exitCode === 0, 60_000);
    await this.#start(folder);
  }

  async #start(folder: string): Promise<void> {
    const root = this.#root.path;
    // nspawn makes a /dev of its own, and only where there is none.
    const free = `! mountpoint -q ${root}/dev || umount -R ${root}/dev; exec "$@"`;
    const boot = [...NSPAWN, '-D', root, `--bind=${folder}:/mnt`, '--', ...INIT];
    const args = ['--pdeathsig=KILL', ...this.#root.enter, 'sh', '-ec', free, 'boot', ...boot];
    const nspawn = spawn('setpriv', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#nspawn = nspawn;
    for (const stream of [nspawn.stdout, nspawn.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.#complaint += chunk.toString()));
    }
    await eventually('systemd runs', () => this.#findInit(), 60_000);
    let state = '';
    const booted = async (): Promise<boolean> => {
      const { stdout, stderr } = await this.run('systemctl is-system-running --wait');
      state = stdout.trim() || stderr;
      return /^(running|degraded)$/.test(state);
    };
    await eventually('the machine has booted', booted, 60_000);
    if (state === 'running') return;
    const failed = await this.run('systemctl --failed --plain --no-legend');
    throw new Error(`units that failed at boot: ${failed.stdout}`);
  }

  /** nspawn's only child, once it is systemd. */
  async #findInit(): Promise<boolean> {
    const nspawn = this.#nspawn;
    if (nspawn?.pid === undefined || nspawn.exitCode !== null || nspawn.signalCode !== null) {
      throw new Error(`systemd-nspawn has ended: ${this.#complaint}`);
    }
    const pid = String(nspawn.pid);
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    this.#init = children.trim();
    const name = await readFile(`/proc/${this.#init}/comm`, 'utf8').catch(() => '');
    return name === 'systemd\n';
  }

  /** Runs a shell script in there, as root; it ends at the first command that fails. */
  async run(script: string, { timeoutMs = 120_000 } = {}): Promise<RunResult> {
    const namespaces = ['-m', '-n', '-u', '-i', '-p', '-C', '--root', '--wd=/'];
    const command = ['nsenter', '-t', this.#init, ...namespaces, '--', 'sh', '-ec', script];
    return run('env', [...LOGIN, ...command], { timeoutMs });
  }

  /** Runs what must succeed; answers what it printed. */
  async ok(script: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(script);
    if (status === 0) return stdout;
    const journal = await this.run('journalctl -u keyhold --no-pager -o cat -n 30 || true');
    throw new Error(`status ${String(status)}: ${script}\n${stdout}${stderr}\n${journal.stdout}`);
  }

  /** Runs what must fail; answers what it printed, errors too. */
  async fails(script: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(script);
    if (status === 0) throw new Error(`it did not fail: ${script}\n${stdout}`);
    return stdout + stderr;
  }

  /** Turns it off at once. */
  async close(): Promise<void> {
    const nspawn = this.#nspawn;
    if (nspawn !== undefined && nspawn.exitCode === null && nspawn.signalCode === null) {
      const ended = once(nspawn, 'exit');
      // Without its process 1 all of it is gone, and nspawn ends.
      if (await this.#findInit().catch(() => false)) process.kill(Number(this.#init), 'SIGKILL');
      else await endProcess(nspawn, 'SIGKILL');
      await ended;
    }
    await this.#root.close();
  }
}

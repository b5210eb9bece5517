// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { run } from '../test/support/process.js';
import { repository } from './peer.js';

/** What the figures depend on, name and value. */
export type MachineFacts = Readonly<Record<string, string>>;

export async function machineFacts(): Promise<MachineFacts> {
  const [cpu] = cpus();
  const cpuinfo = await readFile('/proc/cpuinfo', 'utf8');
  const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(' ') ?? [];
  const known = ['aes', 'vaes', 'vpclmulqdq', 'avx512f'].filter((flag) => flags.includes(flag));
  const system = await readFile('/etc/os-release', 'utf8');
  return {
    CPU: `${cpu?.model ?? 'unknown'}, ${cpus().length} cores (${known.join(', ')})`,
    memory: `${(totalmem() / 2 ** 30).toFixed(0)} GiB`,
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(system)?.[1] ?? 'unknown',
    'file system of the checkout': await firstLine('stat', ['-f', '-c', '%T', repository]),
    keyhold: await firstLine('git', ['-C', repository, 'describe', '--always', '--dirty']),
    node: process.version,
    fio: await firstLine('fio', ['--version']),
    nbdcopy: await firstLine('nbdcopy', ['--version']),
    nbdkit: await firstLine('nbdkit', ['--version']),
    'qemu-nbd': await firstLine('qemu-nbd', ['--version']),
    'nbd-server': await firstLine('nbd-server', ['-V']),
  };
}

async function firstLine(command: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, args);
    return (stdout || stderr).split('\n')[0] ?? '';
  } catch {
    return 'absent';
  }
}

// SPDX-License-Identifier: Apache-2.0
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, type RunResult, runOk } from '../support/process.js';

const folder = new URL('../../systemd/', import.meta.url).pathname;

export async function readUnit(name: string): Promise<string> {
  return readFile(join(folder, name), 'utf8');
}

/** Every value that a unit gives an option, in order; an option may be given more than once. */
export function valuesOf(unit: string, option: string): string[] {
  return [...unit.matchAll(new RegExp(`^${option}=(.*)$`, 'gm'))].map(([, value]) => value ?? '');
}

/**
 * The units in a directory of the test, with programs that exist on every machine in place of the
 * installed ones, since `systemd-analyze verify` looks for them.
 */
export class UnitFiles {
  readonly dir: string;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async copy(t: { teardown(fn: () => unknown): unknown }): Promise<UnitFiles> {
    const dir = await mkdtemp(join(tmpdir(), 'keyhold-units-'));
    t.teardown(() => rm(dir, { recursive: true, force: true }));
    const units = new UnitFiles(dir);
    await cp(folder, dir, { recursive: true });
    await cp(join(dir, 'examples'), dir, { recursive: true });
    for (const name of await readdir(dir)) {
      if (!name.endsWith('.service')) continue;
      await units.edit(name, (text) =>
        text.replaceAll('/usr/bin/keyhold', '/bin/true').replaceAll('/usr/sbin/nbd-client', 'true'),
      );
    }
    await units.edit('keyhold-attach@.service', (text) =>
      text.replace('ExecStop=true', 'ExecStop=/bin/true'),
    );
    await cp(join(dir, 'keyhold-attach@.service'), join(dir, 'keyhold-attach@db01.service'));
    return units;
  }

  async edit(name: string, change: (text: string) => string): Promise<void> {
    const path = join(this.dir, name);
    await writeFile(path, change(await readFile(path, 'utf8')));
  }

  /** What systemd has to say about the units; nothing when they are clean. */
  async verify(...names: string[]): Promise<string> {
    const paths = names.map((name) => join(this.dir, name));
    const { stdout, stderr, status } = await run('systemd-analyze', [
      'verify',
      '--man=no',
      ...paths,
    ]);
    return status === 0 ? stdout + stderr : `status ${String(status)}: ${stdout}${stderr}`;
  }

  /** Fails above an exposure of 2.0. */
  async security(): Promise<RunResult> {
    const unit = join(this.dir, 'keyhold.service');
    return run('systemd-analyze', ['security', '--offline=true', '--threshold=20', unit]);
  }
}

/** The system calls that a service's SystemCallFilter= lines allow, groups expanded. */
export async function allowedCalls(unit: string): Promise<Set<string>> {
  const groups = parseGroups(await runOk('systemd-analyze', ['syscall-filter']));
  const expand = (name: string): string[] =>
    name.startsWith('@') ? (groups.get(name) ?? []).flatMap(expand) : [name];
  // An allow list always has these.
  const allowed = new Set(expand('@default'));
  for (const value of valuesOf(unit, 'SystemCallFilter')) {
    const deny = value.startsWith('~');
    for (const name of value
      .slice(deny ? 1 : 0)
      .split(' ')
      .flatMap(expand)) {
      if (deny) allowed.delete(name);
      else allowed.add(name);
    }
  }
  return allowed;
}

function parseGroups(text: string): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  let members: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('@')) {
      members = [];
      groups.set(line.trim(), members);
    } else if (/^ +[^ #]/.test(line)) {
      members.push(line.trim());
    }
  }
  return groups;
}

// SPDX-License-Identifier: Apache-2.0
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { runOk } from '../process.js';
import { type Kernel, type KernelModule, modulesInLoadOrder } from './kernel.js';
import { findProgram, librariesOf } from './programs.js';

const INIT = new URL('init.sh', import.meta.url).pathname;
const FOLDERS = ['bin', 'dev', 'etc', 'mnt', 'modules', 'proc', 'run', 'sys', 'tmp'];
/** What init itself needs: the network card. */
const BASE_MODULES = ['virtio_pci', 'virtio_net'];

export interface InitramfsOptions {
  readonly kernel: Kernel;
  /** Besides those that every virtual machine has. */
  readonly modules: readonly string[];
  /** Programs of this machine, by name, that go along with their libraries; busybox always does. */
  readonly programs: readonly string[];
}

/**
 * Writes the first file system of a virtual machine to `path`. It is not compressed: emulated
 * processors take longer to unpack than QEMU takes to load it.
 */
export async function buildInitramfs(path: string, options: InitramfsOptions): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'keyhold-initramfs-'));
  try {
    for (const folder of FOLDERS) await mkdir(join(root, folder));
    await copyFile(INIT, join(root, 'init'));
    await chmod(join(root, 'init'), 0o755);
    for (const name of ['busybox', ...options.programs]) await addProgram(root, name);
    const modules = await modulesInLoadOrder(options.kernel, [...BASE_MODULES, ...options.modules]);
    await addModules(root, modules);
    await findProgram('cpio');
    const pack = 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"';
    await runOk('sh', ['-c', pack, 'sh', root, path]);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function addProgram(root: string, name: string): Promise<void> {
  const program = await findProgram(name);
  await copyFile(program, join(root, 'bin', name));
  if (name === 'busybox') return; // static; ldd says so with a failure
  for (const library of await librariesOf(program)) {
    await mkdir(join(root, dirname(library)), { recursive: true });
    await copyFile(library, join(root, library));
  }
}

async function addModules(root: string, modules: readonly KernelModule[]): Promise<void> {
  const folder = join(root, 'modules');
  for (const { path, fileName } of modules) await copyFile(path, join(folder, fileName));
  const load = modules.map(({ fileName }) => `insmod /modules/${fileName}\n`).join('');
  await writeFile(join(folder, 'load'), load);
}

// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { HOW_TO_INSTALL, runProgram } from './programs.js';

const FETCHED = new URL('../../../node_modules/.cache/keyhold-vm/kernel', import.meta.url).pathname;

/** A kernel package that was unpacked, not installed (.ci/fetch-kernel). */
export interface Kernel {
  readonly version: string;
  /** The bootable image. */
  readonly image: string;
  /** The folder that has `lib/modules/VERSION`. */
  readonly root: string;
}

export interface KernelModule {
  readonly path: string;
  readonly fileName: string;
}

/** The kernel that `.ci/setup` fetched; rejects with the command to run when there is none. */
export async function findKernel(root = FETCHED): Promise<Kernel> {
  const version = await readFile(join(root, 'version'), 'utf8').catch(() => {
    throw new Error(`cannot boot a virtual machine: no kernel in ${root}; ${HOW_TO_INSTALL}`);
  });
  return {
    version: version.trim(),
    image: join(root, 'boot', `vmlinuz-${version.trim()}`),
    root,
  };
}

/** The modules of these names and all that they need, each once, in the order to load them. */
export async function modulesInLoadOrder(
  kernel: Kernel,
  names: readonly string[],
): Promise<KernelModule[]> {
  const modules = new Map<string, KernelModule>();
  for (const name of names) {
    const args = ['-d', kernel.root, '-S', kernel.version, '--show-depends', name];
    for (const found of parseDepends(await runProgram('modprobe', args))) {
      if (!modules.has(found.path)) modules.set(found.path, found);
    }
  }
  return [...modules.values()];
}

/**
 * Lines are `insmod PATH OPTIONS` or, for what is built into the kernel, `builtin NAME`. The
 * options come from the modprobe configuration of this machine, which is none of the other one's.
 */
export function parseDepends(text: string): KernelModule[] {
  return [...text.matchAll(/^insmod (\S+)/gm)].map(([, path = '']) => ({
    path,
    fileName: basename(path),
  }));
}

// SPDX-License-Identifier: Apache-2.0
import { type FileHandle, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expandAes256, multiply } from './dek-oracle.js';
import { eventually, run } from './process.js';

export interface Needle {
  readonly name: string;
  readonly bytes: Buffer;
}

/** Enough that a needle which straddles two pieces is still seen whole in one. */
const OVERLAP_BYTES = 256;
const PIECE_BYTES = 16 * 1024 * 1024;
const PAGE_BYTES = 4096;
const STOP_MS_MAX = 20_000;

/**
 * Dumps a process with gcore, everything that ptrace can read, excluded mappings too (`-a`), and
 * returns the names of the needles that are in the dump.
 */
export async function findInCore(
  pid: number,
  needles: readonly Needle[],
  dir: string,
): Promise<{ found: string[]; sizeBytes: number }> {
  const prefix = join(dir, 'core');
  const result = await run('gcore', ['-a', '-o', prefix, String(pid)], { timeoutMs: 110_000 });
  const path = `${prefix}.${String(pid)}`;
  if (result.status !== 0) throw new Error(`gcore: ${result.stdout}${result.stderr}`);
  try {
    return await searchFile(path, needles);
  } finally {
    await rm(path, { force: true });
  }
}

/**
 * The same without the dump, which is gigabytes of address space that nobody ever touched: stops
 * the process and searches the pages that it has, in memory or in swap, where ptrace can read them.
 */
export async function findInMemory(
  pid: number,
  needles: readonly Needle[],
): Promise<{ found: string[]; sizeBytes: number }> {
  const search = new Search(needles);
  process.kill(pid, 'SIGSTOP');
  try {
    await eventually('all threads stand still', () => standsStill(pid), STOP_MS_MAX);
    const memory = await open(`/proc/${String(pid)}/mem`, 'r');
    try {
      let sizeBytes = 0;
      for (const run of await residentRuns(pid)) sizeBytes += await searchRun(memory, run, search);
      return { found: search.found, sizeBytes };
    } finally {
      await memory.close();
    }
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** One pass over the file. */
export async function searchFile(
  path: string,
  needles: readonly Needle[],
): Promise<{ found: string[]; sizeBytes: number }> {
  const search = new Search(needles);
  const piece = Buffer.alloc(PIECE_BYTES + OVERLAP_BYTES);
  const file = await open(path, 'r');
  let offset = 0;
  try {
    for (;;) {
      const { bytesRead } = await file.read(piece, 0, piece.length, offset);
      search.look(piece.subarray(0, bytesRead));
      if (bytesRead < piece.length) return { found: search.found, sizeBytes: offset + bytesRead };
      offset += PIECE_BYTES;
    }
  } finally {
    await file.close();
  }
}

/** A table of two-byte beginnings decides where needles are compared. */
class Search {
  readonly #beginnings = new Map<number, Needle[]>();
  readonly #mayBegin = new Uint8Array(65_536);
  readonly #found = new Set<string>();

  constructor(needles: readonly Needle[]) {
    for (const needle of needles) {
      if (needle.bytes.length < 8 || needle.bytes.length > OVERLAP_BYTES) {
        throw new RangeError(`needle ${needle.name} has ${String(needle.bytes.length)} bytes`);
      }
      if (isZero(needle.bytes)) throw new RangeError(`needle ${needle.name} is nothing but zeros`);
      const beginning = needle.bytes.readUInt16LE(0);
      this.#mayBegin[beginning] = 1;
      this.#beginnings.set(beginning, [...(this.#beginnings.get(beginning) ?? []), needle]);
    }
  }

  get found(): string[] {
    return [...this.#found].sort();
  }

  look(piece: Buffer): void {
    const end = piece.length - 1;
    for (let at = 0; at < end; at += 1) {
      // No needle lies wholly in zeros; the last ones may be the beginning of one.
      if (at % PAGE_BYTES === 0) {
        while (isZero(piece.subarray(at, at + PAGE_BYTES + OVERLAP_BYTES))) at += PAGE_BYTES;
        if (at >= end) return;
      }
      const beginning = (piece[at] as number) | ((piece[at + 1] as number) << 8);
      if (this.#mayBegin[beginning] === 1) this.#compare(piece, at, beginning);
    }
  }

  #compare(piece: Buffer, at: number, beginning: number): void {
    for (const { name, bytes } of this.#beginnings.get(beginning) ?? []) {
      const stop = at + bytes.length;
      if (stop <= piece.length && piece.compare(bytes, 0, bytes.length, at, stop) === 0) {
        this.#found.add(name);
      }
    }
  }
}

const ZEROS = Buffer.alloc(PAGE_BYTES + OVERLAP_BYTES);

/** Whether so many bytes (at most a page and what overlaps) are some, and all of them zero. */
function isZero(bytes: Uint8Array): boolean {
  return bytes.length > 0 && ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

interface Run {
  readonly startBytes: number;
  endBytes: number;
}

/** The pages of a process that are in memory or in swap (proc_pid_pagemap(5)). */
async function residentRuns(pid: number): Promise<Run[]> {
  const runs: Run[] = [];
  const maps = await readFile(`/proc/${String(pid)}/maps`, 'utf8');
  const pagemap = await open(`/proc/${String(pid)}/pagemap`, 'r');
  try {
    for (const [, from = '', to = ''] of maps.matchAll(/^([0-9a-f]{1,12})-([0-9a-f]{1,12}) /gm)) {
      const [first, last] = [parseInt(from, 16) / PAGE_BYTES, parseInt(to, 16) / PAGE_BYTES];
      const entries = Buffer.alloc((last - first) * 8);
      await pagemap.read(entries, 0, entries.length, first * 8);
      for (let page = first; page < last; page += 1) {
        // Bit 63: present, bit 62: in swap.
        if (((entries[(page - first) * 8 + 7] as number) & 0xc0) === 0) continue;
        const startBytes = page * PAGE_BYTES;
        const run = runs.at(-1);
        if (run?.endBytes === startBytes) run.endBytes += PAGE_BYTES;
        else runs.push({ startBytes, endBytes: startBytes + PAGE_BYTES });
      }
    }
  } finally {
    await pagemap.close();
  }
  return runs;
}

/** Returns how many bytes could be read; secret memory cannot, which is its purpose. */
async function searchRun(memory: FileHandle, run: Run, search: Search): Promise<number> {
  const piece = Buffer.alloc(Math.min(run.endBytes - run.startBytes, PIECE_BYTES));
  let readBytes = 0;
  for (let at = run.startBytes; at < run.endBytes;) {
    const wanted = Math.min(piece.length, run.endBytes - at);
    // EIO: not one byte of this page.
    const { bytesRead } = await memory.read(piece, 0, wanted, at).catch(() => ({ bytesRead: 0 }));
    search.look(piece.subarray(0, bytesRead));
    readBytes += bytesRead;
    if (bytesRead < wanted) at += Math.floor(bytesRead / PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES;
    else at += at + wanted < run.endBytes ? wanted - OVERLAP_BYTES : wanted;
  }
  return readBytes;
}

async function standsStill(pid: number): Promise<boolean> {
  const tasks = `/proc/${String(pid)}/task`;
  for (const task of await readdir(tasks)) {
    const text = await readFile(join(tasks, task, 'stat'), 'utf8');
    if (!/^\d+ \(.*\) [Tt] /s.test(text)) return false;
  }
  return true;
}

/**
 * Everything by which a 32-byte AES key could be found: raw, either half, hex, base64 and base64url
 * at each of the three alignments, and the round keys of the schedule for encryption and (after the
 * inverse column mix) for decryption.
 */
export function keyNeedles(name: string, key: Buffer): Needle[] {
  const needles: Needle[] = [
    { name: `${name} raw`, bytes: key },
    { name: `${name} first half`, bytes: key.subarray(0, 16) },
    { name: `${name} second half`, bytes: key.subarray(16) },
    { name: `${name} hex`, bytes: Buffer.from(key.toString('hex')) },
    { name: `${name} HEX`, bytes: Buffer.from(key.toString('hex').toUpperCase()) },
  ];
  for (const skip of [0, 1, 2]) {
    const whole = key.subarray(skip, skip + 30);
    for (const encoding of ['base64', 'base64url'] as const) {
      needles.push({
        name: `${name} ${encoding} at ${String(skip)}`,
        bytes: Buffer.from(whole.toString(encoding)),
      });
    }
  }
  expandAes256(key).forEach((roundKey, round) => {
    if (round >= 2) needles.push({ name: `${name} round key ${String(round)}`, bytes: roundKey });
    if (round >= 1 && round <= 13) {
      needles.push({
        name: `${name} inverse round key ${String(round)}`,
        bytes: inverseMixColumns(roundKey),
      });
    }
  });
  return needles;
}

function inverseMixColumns(block: Buffer): Buffer {
  const mixed = Buffer.alloc(16);
  for (let column = 0; column < 16; column += 4) {
    for (let row = 0; row < 4; row += 1) {
      mixed[column + row] =
        multiply(0x0e, block[column + row] ?? 0) ^
        multiply(0x0b, block[column + ((row + 1) % 4)] ?? 0) ^
        multiply(0x0d, block[column + ((row + 2) % 4)] ?? 0) ^
        multiply(0x09, block[column + ((row + 3) % 4)] ?? 0);
    }
  }
  return mixed;
}

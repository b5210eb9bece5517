// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const ADDON = fileURLToPath(new URL('../../native/build/release/keyhold.node', import.meta.url));

export interface ChildResult {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What every script finds: the addon, and objects of each of its classes. */
const PRELUDE = `
  const addon = require(process.env.KEYHOLD_ADDON);
  const fs = require('node:fs');
  const os = require('node:os');
  const path = require('node:path');
  const { Worker } = require('node:worker_threads');
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const createPlane = (onEvent = () => {}) =>
    addon.createPlane(
      { shards: 2, xts: 'auto', engine: 'auto', cipherThreads: 1, busyPollUs: 0 },
      onEvent,
    );
  const scratch = () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'keyhold-addon-'));
    process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
    return dir;
  };
  const createStore = (dir, name) => {
    const store = path.join(dir, name);
    fs.writeFileSync(store, '');
    fs.truncateSync(store, 1048576);
    return store;
  };
  const diskOptions = (storePath, more) => ({ name: 'd', sizeBytes: 1048576, sectorSizeBytes: 512,
    storePath, dataOffsetBytes: 0, readOnly: false, holes: true, direct: false,
    leaseEnforced: true, ...more });
  const thrownBy = (call) => {
    try { call(); } catch (error) { return error.name + ': ' + error.message; }
    return 'nothing thrown';
  };
  /** Runs every shard on a worker thread of its own. */
  const runShards = (plane) => [0, 1].map((index) => new Worker(
    'const { workerData, parentPort } = require("node:worker_threads");' +
    'const a = require(process.env.KEYHOLD_ADDON); parentPort.postMessage("starts");' +
    'a.runShard(workerData.id, workerData.index);',
    { eval: true, workerData: { id: plane.id, index } }));
`;

/**
 * Runs a script (the body of an async function) with the addon loaded in a process of its own, so
 * that a crash or a hang is a failed test and not the end of the test run.
 */
export async function inChild(body: string, options: { timeoutMs?: number } = {}) {
  const script = `${PRELUDE}\n(async () => {\n${body}\n})();`;
  const child = spawn(process.execPath, ['--expose-gc', '-e', script], {
    env: { PATH: process.env['PATH'], KEYHOLD_ADDON: ADDON },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 10_000,
    killSignal: 'SIGKILL',
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  const result: ChildResult = {
    status,
    signal,
    stdout: Buffer.concat(stdout).toString('utf8').trim(),
    stderr: Buffer.concat(stderr).toString('utf8').trim(),
  };
  return result;
}

/** The same for a script that must end by itself with status 0; gives what it printed. */
export async function outputOf(body: string): Promise<string> {
  const { status, signal, stdout, stderr } = await inChild(body);
  if (status === 0) return stdout;
  throw new Error(`status ${String(status)}, signal ${String(signal)}\n${stdout}\n${stderr}`);
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endProcess, eventually, run, runOk } from '../test/support/process.js';
import { Stack } from '../test/support/stack.js';
import { makeCertificates } from '../test/support/tls-files.js';

export interface Peer {
  readonly name: string;
  readonly uri: string;
  readonly sizeBytes: number;
}

/** Large enough that a run does not sit in the processor's caches, small enough for /dev/shm. */
const DISK_BYTES = 1024 * 1024 * 1024;
const PASSPHRASE = 'bench';

interface Running {
  readonly peer: Peer;
  stop(): Promise<void>;
}

type Starter = (dir: string) => Promise<Running>;

function uriOf(socket: string, name = ''): string {
  return `nbd+unix:///${name}?socket=${socket}`;
}

async function keyhold(dir: string, sectorSize: 512 | 4096): Promise<Running> {
  const stack = await Stack.start();
  const store = join(dir, `keyhold-${sectorSize}.img`);
  await stack.createDisk({
    name: 'bench',
    size: String(DISK_BYTES),
    diskArgs: ['--store', store, '--sector-size', String(sectorSize)],
  });
  return {
    peer: { name: `keyhold (${sectorSize})`, uri: stack.uri('bench'), sizeBytes: DISK_BYTES },
    stop: () => stack.stop(),
  };
}

/** Starts a server that stays in the foreground and waits for its socket. */
async function server(name: string, socket: string, argv: readonly string[]): Promise<Running> {
  const [command = '', ...args] = argv;
  const child: ChildProcess = spawn(command, args, { stdio: 'ignore' });
  await eventually(`${name} listens`, () => existsSync(socket));
  return {
    peer: { name, uri: uriOf(socket), sizeBytes: DISK_BYTES },
    stop: () => endProcess(child, 'SIGTERM'),
  };
}

async function rawImage(path: string): Promise<void> {
  await runOk('truncate', ['-s', String(DISK_BYTES), path]);
}

async function luksImage(dir: string, path: string): Promise<string> {
  const secret = join(dir, 'passphrase');
  await writeFile(secret, PASSPHRASE, { mode: 0o600 });
  await runOk('qemu-img', [
    'create',
    '-q',
    '--object',
    `secret,id=s,file=${secret}`,
    '-f',
    'luks',
    '-o',
    'key-secret=s,cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time=10',
    path,
    String(DISK_BYTES),
  ]);
  return secret;
}

const nbdkitFile: Starter = async (dir) => {
  const image = join(dir, 'nbdkit.img');
  await rawImage(image);
  const socket = join(dir, 'nbdkit.sock');
  return server('nbdkit file', socket, ['nbdkit', '-f', '-U', socket, 'file', image]);
};

const nbdkitLuks: Starter = async (dir) => {
  const image = join(dir, 'nbdkit-luks.img');
  await luksImage(dir, image);
  const socket = join(dir, 'nbdkit-luks.sock');
  const plugin = ['--filter=luks', 'file', image, `passphrase=${PASSPHRASE}`];
  return server('nbdkit luks', socket, ['nbdkit', '-f', '-U', socket, ...plugin]);
};

const qemuRaw: Starter = async (dir) => {
  const image = join(dir, 'qemu.img');
  await rawImage(image);
  const socket = join(dir, 'qemu.sock');
  const options = ['-f', 'raw', '--cache=writeback', '--aio=io_uring', image];
  return server('qemu-nbd raw', socket, ['qemu-nbd', '-t', '-e', '16', '-k', socket, ...options]);
};

const qemuLuks: Starter = async (dir) => {
  const image = join(dir, 'qemu-luks.img');
  const secret = await luksImage(dir, image);
  const socket = join(dir, 'qemu-luks.sock');
  return server('qemu-nbd luks', socket, [
    ...['qemu-nbd', '-t', '-e', '16', '-k', socket],
    ...['--object', `secret,id=s,file=${secret}`],
    '--image-opts',
    `driver=luks,key-secret=s,file.filename=${image}`,
  ]);
};

const STARTERS: ReadonlyArray<readonly [name: string, program: string | null, start: Starter]> = [
  ['keyhold (512)', null, (dir) => keyhold(dir, 512)],
  ['keyhold (4096)', null, (dir) => keyhold(dir, 4096)],
  ['nbdkit file', 'nbdkit', nbdkitFile],
  ['qemu-nbd raw', 'qemu-nbd', qemuRaw],
  ['nbdkit luks', 'nbdkit', nbdkitLuks],
  ['qemu-nbd luks', 'qemu-nbd', qemuLuks],
];

/** The same certificate for both servers. */
async function tlsFiles(dir: string): Promise<string> {
  const files = join(dir, 'tls');
  if (!existsSync(files)) {
    await mkdir(files);
    await makeCertificates(files);
  }
  return files;
}

/** fio cannot be told where certificates are: so the clients show none and check none. */
function tlsUriOf(socket: string, name = ''): string {
  return `nbds+unix:///${name}?socket=${socket}&tls-verify-peer=false`;
}

async function keyholdTls(dir: string, sectorSize: 512 | 4096): Promise<Running> {
  const files = await tlsFiles(dir);
  const stack = await Stack.start();
  const store = join(dir, `keyhold-tls-${sectorSize}.img`);
  await stack.createDisk({
    name: 'bench',
    size: String(DISK_BYTES),
    diskArgs: ['--store', store, '--sector-size', String(sectorSize)],
  });
  await stack.stopDev();
  const config = join(stack.dir, 'keyhold.toml');
  const lines = [
    '[nbd]',
    'socket_tls = "require"',
    `certificate.cert_file = "${files}/server-cert.pem"`,
    `certificate.key_file = "${files}/server-key.pem"`,
  ];
  await writeFile(config, (await readFile(config, 'utf8')).replace('[nbd]', lines.join('\n')));
  await stack.startDev();
  await eventually('the disk is online', async () => {
    return (await stack.disk('bench')).state === 'online';
  });
  return {
    peer: {
      name: `keyhold tls (${sectorSize})`,
      uri: tlsUriOf(stack.nbdSocket, 'bench'),
      sizeBytes: DISK_BYTES,
    },
    stop: () => stack.stop(),
  };
}

const nbdkitTls: Starter = async (dir) => {
  const files = await tlsFiles(dir);
  const image = join(dir, 'nbdkit-tls.img');
  await rawImage(image);
  const socket = join(dir, 'nbdkit-tls.sock');
  const tls = ['--tls=require', `--tls-certificates=${files}`];
  const argv = ['nbdkit', '-f', '-U', socket, ...tls, 'file', image];
  const running = await server('nbdkit tls', socket, argv);
  return { ...running, peer: { ...running.peer, uri: tlsUriOf(socket) } };
};

/** What a GnuTLS of Debian 12 may use beside AES-256-GCM. */
const OTHER_CIPHERS = [
  'chacha20-poly1305',
  'aes-128-gcm',
  'aes-128-ccm',
  'aes-256-ccm',
  'aes-128-cbc',
  'aes-256-cbc',
];

/** Leaves nbdkit and the clients, all of GnuTLS, one cipher: the same with every server. */
async function forceCipher(dir: string): Promise<void> {
  const path = join(dir, 'gnutls.conf');
  const lines = OTHER_CIPHERS.map((cipher) => `tls-disabled-cipher = ${cipher}`);
  await writeFile(path, ['[overrides]', ...lines, ''].join('\n'));
  process.env['GNUTLS_SYSTEM_PRIORITY_FILE'] = path;
}

const TLS_STARTERS: typeof STARTERS = [
  ['keyhold tls (512)', null, (dir) => keyholdTls(dir, 512)],
  ['keyhold tls (4096)', null, (dir) => keyholdTls(dir, 4096)],
  ['nbdkit tls', 'nbdkit', nbdkitTls],
];

/** Writes the whole disk once: in a sparse store the first writes would pay for pages. */
async function fill(peer: Peer): Promise<void> {
  await runOk(
    'fio',
    [
      '--name=fill',
      '--ioengine=nbd',
      `--uri=${peer.uri}`,
      '--rw=write',
      '--bs=1M',
      '--iodepth=8',
      '--size=100%',
      '--refill_buffers',
    ],
    { timeoutMs: 120_000 },
  );
}

/** Starts every peer whose program is here, its store in memory and filled. */
export async function startPeers(options: { tls: boolean }): Promise<{
  running: Peer[];
  absent: string[];
  stop: () => Promise<void>;
}> {
  const dir = await mkdtemp('/dev/shm/keyhold-bench-');
  const started: Running[] = [];
  const absent: string[] = [];
  const stop = async (): Promise<void> => {
    for (const running of started) await running.stop();
    await rm(dir, { recursive: true, force: true });
  };
  try {
    if (options.tls) await forceCipher(dir);
    for (const [name, program, start] of options.tls ? TLS_STARTERS : STARTERS) {
      if (program !== null && (await run('which', [program])).status !== 0) {
        absent.push(`${name}: ${program} is not installed`);
        continue;
      }
      const running = await start(dir);
      started.push(running);
      await fill(running.peer);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { running: started.map(({ peer }) => peer), absent, stop };
}

// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { endProcess, eventually, run, runOk } from '../test/support/process.js';
import { parseStat } from './cpu.js';
import { fill } from './fio.js';
import { startKeyhold } from './keyhold.js';
import {
  benchProgram,
  DISK_BYTES,
  type Peer,
  type PeerKind,
  type Places,
  type Running,
  uriOf,
} from './peer.js';
import { forceCipher, tlsFiles, tlsUriOf } from './tls.js';

const PASSPHRASE = 'bench';

interface Starter {
  readonly names: readonly string[];
  /** Without it the peers are absent. */
  readonly program: string | null;
  readonly start: (places: Places) => Promise<Running>;
}

/** Starts a server that stays in the foreground and waits for its socket. */
async function server(
  name: string,
  kind: PeerKind,
  socket: string,
  argv: readonly string[],
): Promise<Running> {
  const [command = '', ...args] = argv;
  const child: ChildProcess = spawn(command, args, { stdio: 'ignore' });
  try {
    await eventually(`${name} listens`, () => existsSync(socket));
  } catch (error) {
    await endProcess(child, 'SIGKILL');
    throw error;
  }
  const uri = uriOf(socket);
  return {
    peers: [{ name, kind, uri, sizeBytes: DISK_BYTES, pid: child.pid ?? 0 }],
    stop: () => endProcess(child, 'SIGTERM'),
  };
}

const LUKS_ATTEMPTS_MAX = 20;

async function rawImage(path: string): Promise<void> {
  await runOk('truncate', ['-s', String(DISK_BYTES), path]);
}

async function luksImage(places: Places, path: string): Promise<string> {
  const secret = join(places.sockets, 'passphrase');
  await writeFile(secret, PASSPHRASE, { mode: 0o600 });
  const args = [
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
  ];
  // On a fast processor its measuring of PBKDF2 can fall between two ticks of the CPU clock, which
  // it calls an error. The next attempt falls elsewhere.
  for (let attempt = 1; attempt < LUKS_ATTEMPTS_MAX; attempt += 1) {
    if ((await run('qemu-img', args)).status === 0) return secret;
  }
  await runOk('qemu-img', args);
  return secret;
}

async function nbdServerAlive(pid: number): Promise<boolean> {
  try {
    // A zombie keeps its entry where nobody waits for orphans.
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    return parseStat(stat).pid === pid && !stat.includes(') Z ');
  } catch {
    return false;
  }
}

/** Goes into the background by itself; with `-d` it would serve one connection only. */
async function startNbdServer({ stores, sockets }: Places): Promise<Running> {
  const image = join(stores, 'nbd-server.img');
  await rawImage(image);
  const socket = join(sockets, 'nbd-server.sock');
  const config = join(sockets, 'nbd-server.conf');
  const pidFile = join(sockets, 'nbd-server.pid');
  const lines = ['[generic]', `unixsock = ${socket}`, '[bench]', `exportname = ${image}`];
  await writeFile(config, [...lines, 'splice = true', ''].join('\n'));
  await runOk('nbd-server', ['-C', config, '-p', pidFile]);
  await eventually('nbd-server listens', () => existsSync(socket) && existsSync(pidFile));
  const pid = Number((await readFile(pidFile, 'utf8')).trim());
  return {
    peers: [
      {
        name: 'nbd-server',
        kind: 'plain',
        uri: uriOf(socket, 'bench'),
        sizeBytes: DISK_BYTES,
        pid,
      },
    ],
    async stop() {
      process.kill(pid, 'SIGTERM');
      await eventually('nbd-server ends', async () => !(await nbdServerAlive(pid)));
    },
  };
}

const nullServer: Starter = {
  names: ['null'],
  program: benchProgram('null_server'),
  start({ sockets }) {
    const socket = join(sockets, 'null.sock');
    const argv = [benchProgram('null_server'), socket, String(DISK_BYTES)];
    return server('null', 'null', socket, argv);
  },
};

const nbdkitFile: Starter = {
  names: ['nbdkit file'],
  program: 'nbdkit',
  async start({ stores, sockets }) {
    const image = join(stores, 'nbdkit.img');
    await rawImage(image);
    const socket = join(sockets, 'nbdkit.sock');
    const argv = ['nbdkit', '-f', '-U', socket, 'file', image];
    return server('nbdkit file', 'plain', socket, argv);
  },
};

const nbdkitLuks: Starter = {
  names: ['nbdkit luks'],
  program: 'nbdkit',
  async start(places) {
    const image = join(places.stores, 'nbdkit-luks.img');
    await luksImage(places, image);
    const socket = join(places.sockets, 'nbdkit-luks.sock');
    const plugin = ['--filter=luks', 'file', image, `passphrase=${PASSPHRASE}`];
    const argv = ['nbdkit', '-f', '-U', socket, ...plugin];
    return server('nbdkit luks', 'encrypting', socket, argv);
  },
};

const qemuRaw: Starter = {
  names: ['qemu-nbd raw'],
  program: 'qemu-nbd',
  async start({ stores, sockets }) {
    const image = join(stores, 'qemu.img');
    await rawImage(image);
    const socket = join(sockets, 'qemu.sock');
    const options = ['-f', 'raw', '--cache=writeback', '--aio=io_uring', image];
    const argv = ['qemu-nbd', '-t', '-e', '16', '-k', socket, ...options];
    return server('qemu-nbd raw', 'plain', socket, argv);
  },
};

const qemuLuks: Starter = {
  names: ['qemu-nbd luks'],
  program: 'qemu-nbd',
  async start(places) {
    const image = join(places.stores, 'qemu-luks.img');
    const secret = await luksImage(places, image);
    const socket = join(places.sockets, 'qemu-luks.sock');
    return server('qemu-nbd luks', 'encrypting', socket, [
      ...['qemu-nbd', '-t', '-e', '16', '-k', socket],
      ...['--object', `secret,id=s,file=${secret}`],
      '--image-opts',
      `driver=luks,key-secret=s,file.filename=${image}`,
    ]);
  },
};

const UNHELPED = { cipher_threads: 0 };

const STARTERS: readonly Starter[] = [
  {
    names: ['keyhold (512)', 'keyhold (4096)'],
    program: null,
    start: (places) => startKeyhold(places, { sectorSizes: [512, 4096] }),
  },
  {
    // Without cipher threads: what these give.
    names: ['keyhold unhelped (512)'],
    program: null,
    start: (places) => startKeyhold(places, { sectorSizes: [512], dataPlane: UNHELPED }),
  },
  nullServer,
  nbdkitFile,
  { names: ['nbd-server'], program: 'nbd-server', start: startNbdServer },
  qemuRaw,
  nbdkitLuks,
  qemuLuks,
];

const TLS_STARTERS: readonly Starter[] = [
  {
    names: ['keyhold tls (512)', 'keyhold tls (4096)'],
    program: null,
    start: (places) => startKeyhold(places, { sectorSizes: [512, 4096], tls: true }),
  },
  {
    names: ['nbdkit tls'],
    program: 'nbdkit',
    async start({ stores, sockets }) {
      const image = join(stores, 'nbdkit-tls.img');
      await rawImage(image);
      const socket = join(sockets, 'nbdkit-tls.sock');
      const tls = ['--tls=require', `--tls-certificates=${await tlsFiles(sockets)}`];
      const argv = ['nbdkit', '-f', '-U', socket, ...tls, 'file', image];
      const running = await server('nbdkit tls', 'plain', socket, argv);
      const peers = running.peers.map((peer) => ({ ...peer, uri: tlsUriOf(socket) }));
      return { ...running, peers };
    },
  },
];

export interface StartedPeers {
  readonly peers: readonly Peer[];
  /** Each with the reason. */
  readonly absent: readonly string[];
  readonly stop: () => Promise<void>;
}

/** Starts every peer that is wanted and whose program is here, and fills its store. */
export async function startPeers(
  places: Places,
  options: { tls: boolean; only: RegExp },
): Promise<StartedPeers> {
  const started: Running[] = [];
  const absent: string[] = [];
  const stop = async (): Promise<void> => {
    for (const running of started) await running.stop();
  };
  const peers: Peer[] = [];
  try {
    if (options.tls) await forceCipher(places.sockets);
    for (const { names, program, start } of options.tls ? TLS_STARTERS : STARTERS) {
      if (!names.some((name) => options.only.test(name))) continue;
      if (program !== null && (await run('which', [program])).status !== 0) {
        absent.push(`${names.join(', ')}: there is no program ${program}`);
        continue;
      }
      const running = await start(places);
      started.push(running);
      const wanted = running.peers.filter(({ name }) => options.only.test(name));
      for (const peer of wanted) await fill(peer);
      peers.push(...wanted);
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { peers, absent, stop };
}

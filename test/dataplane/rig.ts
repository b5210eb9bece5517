// SPDX-License-Identifier: Apache-2.0
import {
  createCipheriv,
  createDecipheriv,
  type KeyObject,
  pbkdf2Sync,
  randomBytes,
} from 'node:crypto';
import { writeSync } from 'node:fs';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import type { NetConnectOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/base/clock.js';
import type { DataPlaneDisk } from '../../src/dataplane/plane-disk.js';
import type { DiskSpec, PlaneDiskEvent } from '../../src/disks/ports.js';
import type { ExportDirectory, ExportInfo } from '../../src/nbd/exports.js';
import type { DekDigest, LeaseHandle, SealedDek } from '../../src/sets/ports.js';
import type { SetKeyHandle } from '../../src/vault/types.js';
import { NbdClient } from '../support/nbd-client.js';
import { eventually } from '../support/process.js';
import { collectingLogger, type LogLine } from './lines.js';

/** Piscina's workers need built files: the facade is taken from dist, under the source's types. */
const built = (path: string): string => new URL(`../../dist/${path}`, import.meta.url).href;
const { DataPlane } = (await import(
  built('dataplane/plane.js')
)) as typeof import('../../src/dataplane/plane.js');
const { NativeCustody, Lease } = (await import(
  built('dataplane/custody.js')
)) as typeof import('../../src/dataplane/custody.js');
const { loadAddon } = (await import(
  built('dataplane/load.js')
)) as typeof import('../../src/dataplane/load.js');
const { createPlatformKeyFile, loadPlatformKey } = (await import(
  built('dataplane/platform-key.js')
)) as typeof import('../../src/dataplane/platform-key.js');
const { createSystemClock } = (await import(
  built('base/clock.js')
)) as typeof import('../../src/base/clock.js');

export const addon = loadAddon();
export const custody = new NativeCustody(addon);
export { createPlatformKeyFile, DataPlane, Lease, loadPlatformKey };

export const MIB = 1024 * 1024;

/** What tap gives a test; only teardown is needed here. */
interface Teardown {
  teardown(end: () => Promise<void> | void): void;
}

/** A directory of this test alone, which goes with it. */
export async function temporaryDirectory(t: Teardown): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'keyhold-plane-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A set key whose bytes the test knows: they go the way that the unwrap helper's go. */
export async function knownSetKey(bytes: Uint8Array): Promise<SetKeyHandle> {
  const { readFd, writeFd } = custody.createPipe();
  writeSync(writeFd, bytes);
  custody.closeFd(writeFd);
  return custody.receiveSetKey(readFd, 5000);
}

/** Seals a DEK with node:crypto: the oracle of what native code makes and takes. */
export function sealDek(setKey: Uint8Array, dek: Uint8Array, aad: Uint8Array): SealedDek {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', setKey, nonce).setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(dek), cipher.final()]);
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}

/** Opens a sealed DEK with node:crypto; throws when the seal is broken. */
export function openDek(setKey: Uint8Array, sealed: SealedDek, aad: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', setKey, sealed.nonce).setAAD(aad);
  decipher.setAuthTag(sealed.tag);
  return Buffer.concat([decipher.update(sealed.ciphertext), decipher.final()]);
}

export function digestDek(dek: Uint8Array, iterations = 1000): DekDigest {
  const salt = randomBytes(32);
  return { salt, iterations, digest: pbkdf2Sync(dek, salt, iterations, 32, 'sha256') };
}

/** Big-endian modulus and exponent of an RSA key, as Key Vault gives them. */
export function numbersOf(key: KeyObject): { modulus: Buffer; exponent: Buffer } {
  const { n = '', e = '' } = key.export({ format: 'jwk' });
  return { modulus: Buffer.from(n, 'base64url'), exponent: Buffer.from(e, 'base64url') };
}

export interface Served {
  readonly disk: DataPlaneDisk;
  readonly spec: DiskSpec;
  readonly lease: LeaseHandle;
  readonly events: PlaneDiskEvent[];
  readonly setKeyBytes: Buffer;
  readonly setKey: SetKeyHandle;
  readonly dekBytes: Buffer;
  readonly dek: { sealed: SealedDek; aad: Uint8Array; digest: DekDigest };
  /** Opens the DEK with the set key: serves from here on. */
  readonly unlock: () => void;
}

export interface ServeOptions {
  readonly sizeBytes?: number;
  readonly sectorSizeBytes?: 512 | 4096;
  readonly dataOffsetBytes?: number;
  readonly readOnly?: boolean;
  readonly leaseEnforced?: boolean;
  readonly leaseMs?: number;
  readonly locked?: boolean;
  readonly direct?: boolean;
  /** One that is there already. */
  readonly storePath?: string;
}

/** A data plane on real sockets and files. */
export class Rig {
  readonly plane: InstanceType<typeof DataPlane>;
  readonly dir: string;
  readonly deaths: { index: number; message: string; final: boolean }[] = [];
  readonly lines: LogLine[] = [];
  readonly #exports = new Map<string, ExportInfo>();
  #sockets = 0;

  constructor(
    dir: string,
    options: { shards: number; clock?: Clock; xts?: string; engine?: string },
  ) {
    this.dir = dir;
    const directory: ExportDirectory = {
      list: () => [...this.#exports.values()],
      find: (name) =>
        this.#exports.get(name) ?? { refused: 'unknown', text: `no disk is called ${name}` },
    };
    this.plane = new DataPlane({
      addon,
      shards: options.shards,
      xts: options.xts ?? 'auto',
      engine: options.engine ?? 'auto',
      cipherThreads: 1,
      busyPollUs: 100,
      exportsFor: () => directory,
      clock: options.clock ?? createSystemClock({ bootMs: () => addon.bootTimeMs() }),
      logger: collectingLogger(this.lines),
      onShardDeath: (index, message, final) => void this.deaths.push({ index, message, final }),
    });
  }

  /** Ends the plane when the test ends. */
  static async start(
    t: Teardown,
    options: { shards?: number; clock?: Clock; xts?: string } = {},
  ): Promise<Rig> {
    const rig = new Rig(await temporaryDirectory(t), { shards: 2, ...options });
    t.teardown(() => rig.plane.stop());
    return rig;
  }

  /** Listens on a unix socket of the rig's directory. */
  listen(): NetConnectOpts {
    this.#sockets += 1;
    const path = join(this.dir, `nbd-${this.#sockets}.sock`);
    this.plane.listenUnix(path, 0o600);
    return { path };
  }

  /** A store of zeros, and what is needed to open it. */
  async spec(name: string, options: ServeOptions = {}): Promise<DiskSpec> {
    const sizeBytes = options.sizeBytes ?? 4 * MIB;
    const dataOffsetBytes = options.dataOffsetBytes ?? 0;
    const storePath = options.storePath ?? join(this.dir, `${name}.store`);
    if (options.storePath === undefined) {
      await writeFile(storePath, '');
      await truncate(storePath, dataOffsetBytes + sizeBytes);
    }
    const lease = custody.createLease();
    if (options.leaseMs !== 0) lease.renew(addon.bootTimeMs(), options.leaseMs ?? 600_000);
    return {
      name,
      uuid: '00000000-0000-4000-8000-000000000001',
      sizeBytes,
      sectorSizeBytes: options.sectorSizeBytes ?? 512,
      storePath,
      dataOffsetBytes,
      readOnly: options.readOnly ?? false,
      holes: true,
      direct: options.direct ?? false,
      lease,
      leaseEnforced: options.leaseEnforced ?? true,
    };
  }

  /** A disk with keys that the test knows, serving unless `locked`. */
  async serve(name: string, options: ServeOptions = {}): Promise<Served> {
    const spec = await this.spec(name, options);
    const events: PlaneDiskEvent[] = [];
    await this.plane.openDisk(spec, (event) => void events.push(event));
    const disk = this.plane.disk(name);
    if (disk === undefined) throw new Error(`the plane does not know disk ${name}`);
    const [setKeyBytes, dekBytes, aad] = [randomBytes(32), randomBytes(64), randomBytes(40)];
    const setKey = await knownSetKey(setKeyBytes);
    const sealed = sealDek(setKeyBytes, dekBytes, aad);
    const dek = { sealed, aad, digest: digestDek(dekBytes) };
    const { lease } = spec;
    const unlock = (): void => disk.unlock(setKey, dek);
    if (options.locked !== true) unlock();
    const { sizeBytes, sectorSizeBytes, readOnly } = spec;
    const facts = { sizeBytes, sectorSizeBytes, readOnly, rotational: false };
    this.#exports.set(name, { name, description: '', ...facts });
    return { disk, spec, lease, events, setKeyBytes, setKey, dekBytes, dek, unlock };
  }

  /** A client in transmission with disk `name`; the plane knows of it already. */
  async client(where: NetConnectOpts, name: string): Promise<NbdClient> {
    const ids = (): number[] => (this.plane.disk(name)?.clients() ?? []).map(({ id }) => id);
    const before = new Set(ids());
    const client = await NbdClient.handshake(where);
    await client.go(name);
    // Not by their number: a client before this one may only now be seen to have gone.
    await eventually('the plane lists the client', () => ids().some((id) => !before.has(id)));
    return client;
  }

  /** Which shard serves the only client of disk `name`. */
  shardOf(name: string): number {
    const id = this.plane.disk(name)?.native.id;
    const found = this.plane.connections().find((connection) => connection.diskId === id);
    if (found === undefined) throw new Error(`disk ${name} has no client`);
    return found.shard;
  }
}

// SPDX-License-Identifier: Apache-2.0
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type {
  DiskPlane,
  DiskSpec,
  OuterCipher,
  OuterLayer,
  PlaneDisk,
  PlaneDiskEvent,
} from '../disks/ports.js';
import type { ExportDirectory } from '../nbd/exports.js';
import { type Peer, peerText } from '../nbd/peer.js';
import type {
  Addon,
  NativeConnection,
  NativeEvent,
  NativeEngine,
  NativePlane,
  NativeTlsOptions,
} from './addon.js';
import { nativeLease } from './custody.js';
import { callNative, codes } from './errors.js';
import { type TlsMode, TlsListeners } from './listener-tls.js';
import { Negotiator } from './negotiator.js';
import type { DataPlaneDisk } from './plane-disk.js';
import { OpenDisks } from './open-disks.js';
import { type PlaneConnection, describeConnections } from './plane-connections.js';
import { openOuterCipher } from './platform-key.js';
import { ShardPool, type ShardStatus } from './shard-pool.js';

/** What a failure to open a store or to listen is called, whatever native code found. */
const STORE_OPEN_CODES = {
  InvalidArgument: codes.ERR_STORE_OPEN,
  System: codes.ERR_STORE_OPEN,
  State: codes.ERR_STORE_OPEN,
};
const DISCARD_CODES = {
  InvalidArgument: codes.ERR_STORE_DISCARD,
  System: codes.ERR_STORE_DISCARD,
};
const LISTEN_CODES = {
  InvalidArgument: codes.ERR_NBD_LISTEN,
  System: codes.ERR_NBD_LISTEN,
  State: codes.ERR_NBD_LISTEN,
};

interface EventTarget {
  dispatch: (event: NativeEvent) => void;
}

/**
 * Native code holds its listener, and all that this reaches, for as long as the native plane lives.
 * A listener that reached the facade itself would keep both alive for ever.
 */
function listenerOf(target: EventTarget): (event: NativeEvent) => void {
  return (event) => target.dispatch(event);
}

export interface DataPlaneOptions {
  readonly addon: Addon;
  readonly shards: number;
  readonly xts: string;
  readonly engine: string;
  readonly cipherThreads: number;
  readonly busyPollUs: number;
  /** The exports as this peer may see them; asked when it connects, and again after TLS. */
  readonly exportsFor: (peer: Peer) => ExportDirectory;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onShardDeath: (index: number, message: string, final: boolean) => void;
}

/**
 * The data plane as the daemon holds it: the native plane, the Piscina pool that runs its shards,
 * and the negotiator that speaks for connections before transmission.
 */
export class DataPlane implements DiskPlane {
  readonly #addon: Addon;
  readonly #native: NativePlane;
  readonly #pool: ShardPool;
  readonly #negotiator: Negotiator;
  readonly #tls: TlsListeners;
  readonly #logger: Logger;
  readonly #events: EventTarget = { dispatch: (event) => this.#dispatch(event) };
  readonly #disks: OpenDisks;
  readonly #listeners: number[] = [];
  /** Connections that serve one disk alone. */
  readonly #onlyDisk = new Map<number, string>();

  constructor(options: DataPlaneOptions) {
    this.#logger = options.logger;
    this.#addon = options.addon;
    this.#native = callNative('creating the data plane', () =>
      options.addon.createPlane(
        {
          shards: options.shards,
          xts: options.xts,
          engine: options.engine,
          cipherThreads: options.cipherThreads,
          busyPollUs: options.busyPollUs,
        },
        listenerOf(this.#events),
      ),
    );
    this.#disks = new OpenDisks(this.#native);
    const { name, why, fallback } = this.#native.engine;
    if (fallback) {
      options.logger.warn({ engine: name, why }, 'io_uring cannot be used: epoll is slower');
    } else {
      options.logger.info({ engine: name, why }, 'the data plane has its engine');
    }
    this.#tls = new TlsListeners(this.#native);
    this.#negotiator = new Negotiator({
      exportsFor: options.exportsFor,
      listenerTls: (id) => this.#tls.of(id),
      transport: {
        respond: (connectionId, send, next) => this.#native.respond(connectionId, send, next),
        closeConnection: (connectionId) => this.#native.closeConnection(connectionId),
        diskIdOf: (name) => this.#disks.idOf(name),
      },
      clock: options.clock,
      logger: options.logger,
    });
    this.#pool = new ShardPool({
      planeId: this.#native.id,
      shards: options.shards,
      logger: options.logger,
      onDeath: options.onShardDeath,
    });
  }

  get engine(): NativeEngine {
    return this.#native.engine;
  }

  /** Before the first listener with TLS, and again when the files have changed. */
  loadTls(options: NativeTlsOptions): void {
    this.#tls.load(options);
  }

  listenUnix(path: string, mode: number, tls: TlsMode = 'off'): void {
    const listen = (): number => this.#native.listenUnix(path, mode);
    this.#addListener(callNative(`listening on ${path}`, listen, LISTEN_CODES), tls);
  }

  /** Returns the port that was bound. */
  listenTcp(host: string, port: number, tls: TlsMode = 'off'): number {
    const bound = callNative(
      `listening on ${host}:${String(port)}`,
      () => this.#native.listenTcp(host, port),
      LISTEN_CODES,
    );
    this.#addListener(bound.listenerId, tls);
    return bound.port;
  }

  /** Accepts on a listening socket that the process inherited, and owns its descriptor. */
  adoptListener(fd: number, tls: TlsMode = 'off'): number {
    const id = callNative(
      `taking over fd ${String(fd)}`,
      () => this.#native.adoptListener(fd),
      LISTEN_CODES,
    );
    this.#addListener(id, tls);
    return id;
  }

  /**
   * Serves disk `only`, and no other, on a connected socket; the plane works on a duplicate of its
   * descriptor, from which nobody else may read any more. Sends `greeting` first.
   */
  takeConnection(fd: number, options: { greeting: Uint8Array; only: string }): void {
    const id = callNative(`serving disk ${options.only} on fd ${String(fd)}`, () =>
      this.#native.takeConnection(fd, options.greeting),
    );
    // Before its first event: events come in a later turn of the event loop.
    this.#onlyDisk.set(id, options.only);
  }

  /** No new client from here on; those of an inherited socket wait in its queue. */
  closeListeners(): void {
    for (const id of this.#listeners.splice(0)) this.#native.closeListener(id);
  }

  // The port is asynchronous because other stores open slowly.
  // eslint-disable-next-line @typescript-eslint/require-await -- see above
  async openDisk(spec: DiskSpec, onEvent: (event: PlaneDiskEvent) => void): Promise<PlaneDisk> {
    const native = callNative(
      `opening store ${spec.storePath} of disk ${spec.name}`,
      () =>
        this.#native.openDisk(
          {
            name: spec.name,
            sizeBytes: spec.sizeBytes,
            sectorSizeBytes: spec.sectorSizeBytes,
            storePath: spec.storePath,
            dataOffsetBytes: spec.dataOffsetBytes,
            readOnly: spec.readOnly,
            holes: spec.holes,
            direct: spec.direct,
            leaseEnforced: spec.leaseEnforced,
          },
          nativeLease(spec.lease),
        ),
      STORE_OPEN_CODES,
    );
    return this.#disks.add(native, spec.name, onEvent);
  }

  checkDirect(spec: Pick<DiskSpec, 'storePath' | 'sectorSizeBytes' | 'dataOffsetBytes'>): void {
    const { storePath, sectorSizeBytes, dataOffsetBytes } = spec;
    callNative(
      `opening store ${storePath}`,
      () => this.#addon.checkDirectIo(storePath, sectorSizeBytes, dataOffsetBytes),
      STORE_OPEN_CODES,
    );
  }

  openOuterCipher(outer: OuterLayer, sectorSizeBytes: 512 | 4096): OuterCipher {
    return openOuterCipher(this.#addon, outer, sectorSizeBytes);
  }

  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean {
    return callNative(
      `discarding a range of store ${path}`,
      () => this.#addon.discardRange(path, offsetBytes, lengthBytes),
      DISCARD_CODES,
    );
  }

  disk(name: string): DataPlaneDisk | undefined {
    return this.#disks.byName(name);
  }

  connections(): NativeConnection[] {
    return this.#native.connections();
  }

  /** Every connection with its peer and its disk, as it is now. */
  describeConnections(): PlaneConnection[] {
    return describeConnections(this.#native, (id) => this.#disks.nameOf(id));
  }

  get negotiatingCount(): number {
    return this.#negotiator.negotiatingCount;
  }

  shards(): ShardStatus[] {
    return this.#pool.status();
  }

  /** Of each shard, a count that goes on for as long as the shard's loop turns. */
  shardTicks(): number[] {
    return this.#addon.shardTicks(this.#native.id);
  }

  /** Of each shard, the processor time that it has used, over all its runs; busy polling counts. */
  shardCpuSeconds(): number[] {
    return this.#addon.shardCpuSeconds(this.#native.id);
  }

  /** Keeps one shard from doing anything: what the tests of the watchdog use. */
  stallShard(index: number, durationMs: number): void {
    this.#addon.stallShard(this.#native.id, index, durationMs);
  }

  /** Makes one shard fail as if its ring had broken: what the tests of shard death use. */
  failShard(index: number): void {
    this.#native.failShard(index);
  }

  /** Tells clients that negotiate from now on that the server shuts down. */
  stopNegotiating(): void {
    this.#negotiator.stop();
  }

  /** Closes every socket, ends the shards, waits for their threads. */
  async stop(): Promise<void> {
    this.#pool.expectStop();
    this.#native.stop();
    await this.#pool.stop();
    this.#events.dispatch = () => undefined;
  }

  /**
   * For `process.on('exit')`: Node joins its workers at exit, and a shard that was not told to stop
   * would never let go of its thread.
   */
  stopNow(): void {
    this.#pool.expectStop();
    this.#native.stop();
  }

  #addListener(id: number, tls: TlsMode): void {
    this.#listeners.push(id);
    this.#tls.set(id, tls);
  }

  #dispatch(event: NativeEvent): void {
    switch (event.kind) {
      case 'negotiation-open':
        this.#negotiator.opened({
          ...event,
          address: event.peer,
          only: this.#onlyDisk.get(event.connectionId),
        });
        break;
      case 'negotiation-tls':
        this.#negotiator.tlsStarted(event.connectionId, event.tls);
        break;
      case 'negotiation-data':
        this.#negotiator.received(event.connectionId, event.data);
        break;
      case 'connection-refused':
        this.#logger.warn(
          { peer: peerText({ address: event.peer, tls: null }), cause: event.cause },
          'connection refused',
        );
        break;
      case 'connection-closed':
        this.#onlyDisk.delete(event.connectionId);
        this.#negotiator.closed(event.connectionId, event.cause);
        this.#disks.tellClients(event.diskId, 'client-disconnected');
        break;
      case 'transmission-started':
        this.#disks.tellClients(event.diskId, 'client-connected');
        break;
      case 'lease-ended':
        this.#disks.tell(event.diskId, {
          kind: 'lease-ended',
          keyWipedBootMs: event.keyWipedBootMs,
        });
        break;
      case 'store-error':
        this.#disks.tell(event.diskId, {
          kind: 'store-error',
          operation: event.operation,
          errno: event.errno,
        });
        break;
      case 'store-buffered':
        this.#disks.tell(event.diskId, { kind: 'store-buffered', message: event.message });
        break;
      case 'shard-died':
        this.#logger.error(
          { shard: event.index, cause: event.message },
          'shard reported its death',
        );
        break;
    }
  }
}

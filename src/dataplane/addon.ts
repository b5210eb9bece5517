// SPDX-License-Identifier: Apache-2.0
import type { PeerAddress, TlsFacts } from '../nbd/peer.js';

/**
 * The addon's surface, exactly as native/binding exports it. Only the facade of this folder uses
 * it; it owns the error classes. A native failure throws an Error with `nativeCode` (the
 * ErrorCode's name without the k: `Unseal`, `Digest`, `System`, …) and, for `System`, `errnoName`
 * (`ENOSPC`).
 */
export interface Addon {
  /** CLOCK_BOOTTIME in ms, with fraction. */
  bootTimeMs(): number;
  opensslVersion(): string;
  /** Names of the XTS kernels that this machine can run, best first. */
  xtsKernels(): string[];
  /** Throws StoreDirect when a disk with these numbers could not have the store `direct`. */
  checkDirectIo(path: string, sectorSizeBytes: number, dataOffsetBytes: number): void;
  /**
   * Gives a range of a file or block device back to what stores it; false where that cannot be
   * had. Throws InvalidArgument or System.
   */
  discardRange(path: string, offsetBytes: number, lengthBytes: number): boolean;
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { uid: number; gid: number; pid: number };
  /** RLIMIT_CORE 0 and PR_SET_DUMPABLE 0 for this process. */
  forbidCoreDumps(): void;
  /** Keys stand in memfd_secret memory; false: in locked memory. */
  hasMemfdSecret(): boolean;
  /** O_CLOEXEC pipe. */
  createPipe(): { readFd: number; writeFd: number };
  closeFd(fd: number): void;
  /**
   * One datagram to the service manager (sd_notify(3)). Throws InvalidArgument for what is no
   * address, System when nobody reads there; waits 200 ms at most.
   */
  notify(socketPath: string, state: string): void;
  /**
   * What an inherited listening stream socket is bound to; no child inherits it from here on.
   * Throws InvalidArgument, naming the descriptor and what it is, for anything else.
   */
  claimListener(fd: number): ListeningAddress;

  generateSetKey(): NativeSetKey;
  /** Reads on a worker thread of libuv's pool; closes the fd. */
  receiveSetKey(readFd: number, timeoutMs: number): Promise<NativeSetKey>;
  createLease(): NativeLease;
  /** A new key in a new file. Throws System with the path, InvalidArgument never. */
  createPlatformKeyFile(path: string): NativePlatformKey;
  /** Throws System, or InvalidArgument with what was found and expected. */
  loadPlatformKey(path: string, credential: boolean): NativePlatformKey;
  /** Opens the outer DEK: Unseal, Digest. */
  openOuterCipher(
    platform: NativePlatformKey,
    sealed: NativeSealed,
    aad: Uint8Array,
    digest: NativeDigest,
    sectorSizeBytes: number,
  ): NativeOuterCipher;
  createPlane(options: NativePlaneOptions, onEvent: (event: NativeEvent) => void): NativePlane;

  /**
   * Runs shard `index` of plane `planeId` on the calling thread until the plane stops. Called in a
   * Piscina worker. Returns normally after stop; throws when the shard died.
   */
  runShard(planeId: number, index: number): void;
  /** Of each shard, how often its timer has fired, over all its runs; about 20 times a second. */
  shardTicks(planeId: number): number[];
  /** Of each shard's threads, while they ran it; as of its last tick (50 ms). */
  shardCpuSeconds(planeId: number): number[];
  /** Test hook: the shard's thread sleeps for that long. */
  stallShard(planeId: number, index: number, durationMs: number): void;
}

export type ListeningAddress =
  /** The path is empty for a socket without a name, `@…` in the abstract namespace. */
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** AES-256-GCM: 12 bytes, as many as the plaintext has, 16 bytes. */
export interface NativeSealed {
  nonce: Uint8Array;
  ciphertext: Uint8Array;
  tag: Uint8Array;
}

export interface NativeDigest {
  salt: Uint8Array;
  iterations: number;
  digest: Uint8Array;
}

export interface NativeSetKey {
  readonly wiped: boolean;
  wrap(modulus: Uint8Array, exponent: Uint8Array): Uint8Array;
  equals(other: NativeSetKey): boolean;
  bindLease(lease: NativeLease): void;
  createDek(aad: Uint8Array): { sealed: NativeSealed; digest: NativeDigest };
  /** The DEK sealed anew by `to` under `newAad`. */
  resealDek(
    sealed: NativeSealed,
    aad: Uint8Array,
    digest: NativeDigest,
    to: NativeSetKey,
    newAad: Uint8Array,
  ): NativeSealed;
  /** Into a new file, on a worker thread of libuv's pool. System with the path. */
  exportDek(
    sealed: NativeSealed,
    aad: Uint8Array,
    digest: NativeDigest,
    path: string,
  ): Promise<void>;
  wipe(): void;
}

export interface NativeLease {
  renew(proofStartBootMs: number, durationMs: number): void;
  /** When it returns, no disk whose lease is enforced by this one holds a key. */
  end(): void;
  deadlineBootMs(): number;
}

export interface NativePlatformKey {
  readonly id: string;
  sealSetKey(key: NativeSetKey, aad: Uint8Array): NativeSealed;
  /** Throws Unseal. */
  openSetKey(sealed: NativeSealed, aad: Uint8Array): NativeSetKey;
  createDek(aad: Uint8Array): { sealed: NativeSealed; digest: NativeDigest };
  exportDek(
    sealed: NativeSealed,
    aad: Uint8Array,
    digest: NativeDigest,
    path: string,
  ): Promise<void>;
}

/** The outer pass over the inner header alone; offsets count from the outer container's data. */
export interface NativeOuterCipher {
  encrypt(bytes: Uint8Array, offsetBytes: number): Uint8Array;
  decrypt(bytes: Uint8Array, offsetBytes: number): Uint8Array;
  wipe(): void;
}

export interface NativePlaneOptions {
  shards: number;
  /** "auto" or a kernel's name. */
  xts: string;
  /** "auto", "io_uring" or "epoll"; System when "io_uring" cannot be had. */
  engine: string;
  /** Threads that take long READs off busy shards: 0 to 16. */
  cipherThreads: number;
  /** How long a busy shard looks for news before it sleeps, in microseconds; 0: not at all. */
  busyPollUs: number;
}

export interface NativeDiskOptions {
  name: string;
  sizeBytes: number;
  sectorSizeBytes: number;
  storePath: string;
  dataOffsetBytes: number;
  readOnly: boolean;
  holes: boolean;
  /** The store must take direct I/O; false: a block device does if it can. */
  direct: boolean;
  leaseEnforced: boolean;
}

/** Where a server's TLS material lies; private keys never pass through JavaScript. */
export interface NativeTlsOptions {
  /** PEM: the server's certificate, then its intermediates. With `keyFile` or not at all. */
  certFile?: string;
  keyFile?: string;
  /** PEM: the authorities of clients; needed unless `clientCertificates` is none. */
  clientCaFile?: string;
  /** `name:hexkey` lines, as psktool writes them. */
  pskFile?: string;
  clientCertificates: 'none' | 'optional' | 'required';
  minVersion: '1.2' | '1.3';
  /** TLS 1.3 suites in place of the defaults. */
  ciphers?: string;
}

/** What the shard does next with a connection that is still in option negotiation. */
export type NextStep =
  | { kind: 'read' }
  | { kind: 'close' }
  /** Sends the bytes of the same `respond` in clear, then waits for the client's TLS handshake. */
  | { kind: 'start-tls'; contextId: number }
  | {
      kind: 'transmission';
      diskId: number;
      /** Extended: 32-byte headers both ways, and chunks for every reply. */
      replies: 'simple' | 'structured' | 'extended';
      /** The id of base:allocation if the client selected it; without one BLOCK_STATUS fails. */
      allocationContextId: number | null;
      /** Bytes that came after the option that ended negotiation. */
      leftover: Uint8Array;
    };

/** What carries the shards' reads, writes, sends and receives. */
export interface NativeEngine {
  readonly name: string;
  readonly why: string;
  /** "auto" did not get io_uring. */
  readonly fallback: boolean;
}

export interface NativePlane {
  readonly engine: NativeEngine;
  readonly id: number;
  /**
   * Adopts a listening socket path: binds, chmods, listens. An existing stale socket is replaced.
   */
  listenUnix(path: string, mode: number): number;
  /** Port 0 picks one; returns what was bound. */
  listenTcp(host: string, port: number): { listenerId: number; port: number };
  /**
   * Accepts on a listening socket that the process inherited, and owns it from then on. Its end
   * here neither shuts it for others that hold it nor removes its file.
   */
  adoptListener(fd: number): number;
  closeListener(listenerId: number): void;
  /**
   * Serves a connected socket under a duplicate of its descriptor, which the caller keeps and must
   * not read from any more; its `negotiation-open` has listener 0. Sends `greeting` first. Returns
   * the connection's id.
   */
  takeConnection(fd: number, greeting: Uint8Array): number;
  /**
   * Negotiation is strict ping-pong: one call for each `negotiation-open`,
   * `negotiation-tls` and `negotiation-data`.
   */
  respond(connectionId: number, send: Uint8Array | null, next: NextStep): void;
  /**
   * Closes a connection in negotiation or in transmission: requests under way end unanswered.
   * Unknown ids are ignored.
   */
  closeConnection(connectionId: number): void;
  /**
   * Reads the files; the id is for `start-tls`. Throws InvalidArgument or System with a message
   * that names the file.
   */
  createTlsContext(options: NativeTlsOptions): number;
  /**
   * The same for handshakes from now on; connections that are there go on with what they began
   * with. When it throws, nothing has changed.
   */
  replaceTlsContext(contextId: number, options: NativeTlsOptions): void;
  openDisk(options: NativeDiskOptions, lease: NativeLease): NativeDisk;
  connections(): NativeConnection[];
  /** Idempotent, synchronous: tells every shard to stop; sockets close. Does not wait. */
  stop(): void;
  /** Test hook: makes a shard's loop fail as if its ring had broken. */
  failShard(index: number): void;
}

export interface NativeConnection {
  id: number;
  shard: number;
  peer: PeerAddress;
  /** 0 while in negotiation. */
  diskId: number;
  connectedAtBootMs: number;
  inFlight: number;
  /** What the TLS handshake has proven; null on a connection in clear. */
  tls: TlsFacts | null;
  /** Bytes of the NBD protocol since it was accepted, handshake included. */
  bytesIn: number;
  bytesOut: number;
  /** Requests that were taken in transmission, whatever their answer. */
  requests: number;
}

export interface NativeDisk {
  readonly id: number;
  unlock(
    key: NativeSetKey,
    sealed: NativeSealed,
    aad: Uint8Array,
    digest: NativeDigest,
    outer: {
      platform: NativePlatformKey;
      sealed: NativeSealed;
      aad: Uint8Array;
      digest: NativeDigest;
    } | null,
  ): void;
  /** KeyWiped, and nothing has changed: the lease has ended, or the one before. */
  setLease(lease: NativeLease, enforced: boolean): void;
  suspend(): Promise<{ keyWipedBootMs: number; parkedRequests: number }>;
  goOffline(): Promise<{
    requestedBootMs: number;
    keyWipedBootMs: number;
    drainedBootMs: number;
    flushedBootMs?: number;
    flushError?: string;
    refusedRequests: number;
    connections: number;
  }>;
  disconnectClients(): Promise<number>;
  /** How many connections are in transmission to the disk; costs nothing. */
  connectionCount(): number;
  stats(): NativeDiskStats;
  close(): Promise<void>;
}

/**
 * Upper bounds of the latency buckets in seconds; the last bucket is +Inf. Fixed in native/core.
 */
export const LATENCY_BUCKETS_SECONDS = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
  0.25, 0.5, 1, 2.5, 5, 10,
] as const;

export const COMMANDS = [
  'read',
  'write',
  'flush',
  'trim',
  'write_zeroes',
  'cache',
  'block_status',
] as const;
export type CommandName = (typeof COMMANDS)[number];

export interface NativeCommandStats {
  requestsOk: number;
  /** Answered with an error other than ESHUTDOWN. */
  requestsError: number;
  requestsShutdown: number;
  bytes: number;
  latencySumSeconds: number;
  /** LATENCY_BUCKETS_SECONDS.length + 1 counts, not cumulative. */
  latencyBuckets: number[];
}

export interface NativeDiskStats {
  /** Only of commands that the disk has answered. */
  commands: Partial<Record<CommandName, NativeCommandStats>>;
  inFlight: number;
  parked: number;
  connections: number;
  keyPresent: boolean;
  /** Bytes that passed the cipher, each direction. */
  encryptedBytes: number;
  decryptedBytes: number;
}

export type NativeEvent =
  | { kind: 'negotiation-open'; connectionId: number; listenerId: number; peer: PeerAddress }
  /** The handshake that `start-tls` began is done; to be answered like `negotiation-open`. */
  | { kind: 'negotiation-tls'; connectionId: number; tls: TlsFacts }
  | { kind: 'negotiation-data'; connectionId: number; data: Uint8Array }
  /** One limit of connections is reached: closed before anything was read. At most one a second. */
  | { kind: 'connection-refused'; listenerId: number; peer: PeerAddress; cause: string }
  /** The connection is gone, in negotiation or in transmission (then `diskId` > 0). */
  | { kind: 'connection-closed'; connectionId: number; diskId: number; cause: string }
  | { kind: 'transmission-started'; connectionId: number; diskId: number }
  | { kind: 'lease-ended'; diskId: number; keyWipedBootMs: number }
  | { kind: 'store-error'; diskId: number; operation: string; errno: string }
  /** A block device goes through the page cache, and why. */
  | { kind: 'store-buffered'; diskId: number; message: string }
  | { kind: 'shard-died'; index: number; message: string };

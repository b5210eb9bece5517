// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { generatePrivateKeyPem, KeyCache, specOf, type KeySpec } from './key-crypto.js';
import type { KeyOperation } from './operations.js';
import {
  badParameter,
  deletedKeyNotFound,
  keyDisabled,
  keyNotFound,
  nameIsDeleted,
  operationNotInKeyOps,
  outsideValidity,
  purgeProtected,
} from './refusals.js';
import type { StateFile, StoredKey, StoredKeyVersion, VaultState } from './state.js';

const DAY_S = 86_400;
/** Bounds of what one vault holds, so that a runaway script cannot fill memory. */
const KEYS_MAX = 1000;
const VERSIONS_MAX = 500;

export interface CreateRequest {
  readonly spec: KeySpec;
  readonly keyOps?: KeyOperation[] | undefined;
  readonly enabled?: boolean | undefined;
  readonly nbf?: number | undefined;
  readonly exp?: number | undefined;
  readonly tags?: Record<string, string> | undefined;
}

/** Members that are undefined stay as they are; null clears a date. */
export interface UpdateRequest {
  readonly keyOps?: KeyOperation[] | undefined;
  readonly enabled?: boolean | undefined;
  readonly nbf?: number | null | undefined;
  readonly exp?: number | null | undefined;
  readonly tags?: Record<string, string> | undefined;
}

export interface NamedVersion {
  readonly name: string;
  readonly version: StoredKeyVersion;
}

export interface CipherRequest {
  readonly operation: 'wrapKey' | 'unwrapKey' | 'encrypt' | 'decrypt';
  readonly algorithm: string;
  readonly value: Buffer;
}

/**
 * The vault's keys and their rules: versions, soft delete, validity, permitted operations. Throws
 * Refusal; a call that throws has changed nothing.
 */
export class KeyRing {
  readonly #file: StateFile;
  readonly #nowMs: () => number;
  readonly #cache = new KeyCache();

  constructor(file: StateFile, nowMs: () => number) {
    this.#file = file;
    this.#nowMs = nowMs;
  }

  /** Names of the keys that are not deleted, sorted. */
  names(): string[] {
    return Object.keys(this.#state.keys)
      .filter((name) => this.#isLive(name))
      .sort();
  }

  deletedNames(): string[] {
    return Object.keys(this.#state.keys)
      .filter((name) => this.#isDeleted(name))
      .sort();
  }

  /** An empty or missing version means the newest. */
  get(name: string, version = ''): NamedVersion {
    return find(this.#liveKey(name, version), name, version);
  }

  versions(name: string): readonly StoredKeyVersion[] {
    return this.#liveKey(name, '').versions;
  }

  deletedKey(name: string): StoredKey & { deleted: NonNullable<StoredKey['deleted']> } {
    const key = this.#isDeleted(name) ? this.#state.keys[name] : undefined;
    if (key?.deleted === undefined) throw deletedKeyNotFound(name);
    return { ...key, deleted: key.deleted };
  }

  /** Makes the key, or a new version if the name exists. */
  async create(name: string, request: CreateRequest): Promise<NamedVersion> {
    this.#assertCreatable(name);
    const privateKeyPem = await generatePrivateKeyPem(request.spec);
    const version = this.#newVersion(request, privateKeyPem);
    // Checked again inside: the name may have been taken or deleted while the key was made.
    return this.#file.update((draft) => {
      this.#assertCreatable(name, draft);
      const key = ownKey(draft, name);
      if (key === undefined || key.deleted !== undefined)
        draft.keys[name] = { versions: [version] };
      else key.versions.push(version);
      return { name, version };
    });
  }

  /** A new version of the same kind as the newest; the rotation policy decides when it expires. */
  async rotate(name: string): Promise<NamedVersion> {
    const { version: newest } = this.get(name);
    const policy = this.#liveKey(name, '').rotationPolicy;
    const nowS = this.#nowS();
    return this.create(name, {
      spec: specOf(newest.kty, newest.privateKeyPem),
      keyOps: newest.keyOps,
      tags: newest.tags,
      exp: policy?.expiryTime == null ? undefined : nowS + parsePeriodS(policy.expiryTime),
    });
  }

  async update(name: string, version: string, request: UpdateRequest): Promise<NamedVersion> {
    return this.#file.update((draft) => {
      const found = find(this.#liveKey(name, version, draft), name, version);
      const { version: stored } = found;
      if (request.keyOps !== undefined) stored.keyOps = request.keyOps;
      if (request.enabled !== undefined) stored.enabled = request.enabled;
      if (request.tags !== undefined) stored.tags = request.tags;
      setDate(stored, 'nbf', request.nbf);
      setDate(stored, 'exp', request.exp);
      stored.updated = this.#nowS();
      return found;
    });
  }

  /** Soft delete, or the end of the key where the vault's recovery level knows no recovery. */
  async delete(name: string): Promise<StoredKey & { deleted: NonNullable<StoredKey['deleted']> }> {
    return this.#file.update((draft) => {
      const key = this.#liveKey(name, '', draft);
      const nowS = this.#nowS();
      const deleted = {
        deletedDate: nowS,
        scheduledPurgeDate: nowS + draft.recoverableDays * DAY_S,
      };
      if (draft.recoveryLevel === 'Purgeable') this.#forget(draft, name);
      else key.deleted = deleted;
      return { ...key, deleted };
    });
  }

  async recover(name: string): Promise<NamedVersion> {
    return this.#file.update((draft) => {
      const key = this.#isDeleted(name, draft) ? ownKey(draft, name) : undefined;
      if (key === undefined) throw deletedKeyNotFound(name);
      delete key.deleted;
      return find(key, name, '');
    });
  }

  async purge(name: string): Promise<void> {
    await this.#file.update((draft) => {
      if (!this.#isDeleted(name, draft)) throw deletedKeyNotFound(name);
      if (!draft.recoveryLevel.includes('Purgeable')) throw purgeProtected();
      this.#forget(draft, name);
    });
  }

  rotationPolicy(name: string): StoredKey['rotationPolicy'] {
    return this.#liveKey(name, '').rotationPolicy;
  }

  async setRotationPolicy(
    name: string,
    request: { lifetimeActions: unknown[]; expiryTime: string | null },
  ): Promise<NonNullable<StoredKey['rotationPolicy']>> {
    if (request.expiryTime !== null) parsePeriodS(request.expiryTime);
    return this.#file.update((draft) => {
      const key = this.#liveKey(name, '', draft);
      const updated = this.#nowS();
      const created = key.rotationPolicy?.created ?? updated;
      key.rotationPolicy = { ...request, created, updated };
      return key.rotationPolicy;
    });
  }

  /**
   * wrapKey, unwrapKey, encrypt and decrypt, refused as the service does: a disabled version
   * refuses what needs the private key; outside its validity a version refuses what makes new
   * ciphertext.
   */
  cipher(name: string, version: string, request: CipherRequest): NamedVersion & { value: Buffer } {
    const found = this.get(name, version);
    const { version: key } = found;
    const { operation } = request;
    const isPrivate = operation === 'unwrapKey' || operation === 'decrypt';
    if (isPrivate && !key.enabled) throw keyDisabled(operation);
    if (!key.keyOps.includes(operation)) throw operationNotInKeyOps(operation);
    if (key.kty === 'EC') throw badParameter(`Operation ${operation} needs an RSA key, not EC.`);
    if (isPrivate) {
      const value = this.#cache.decrypt(key, request.algorithm, request.value);
      return { ...found, value };
    }
    const nowS = this.#nowS();
    if (key.exp !== undefined && nowS >= key.exp) throw outsideValidity(operation, 'expired');
    if (key.nbf !== undefined && nowS < key.nbf) throw outsideValidity(operation, 'not yet valid');
    return { ...found, value: this.#cache.encrypt(key, request.algorithm, request.value) };
  }

  close(): void {
    this.#cache.clear();
  }

  get #state(): VaultState {
    return this.#file.current;
  }

  #nowS(): number {
    return Math.floor(this.#nowMs() / 1000);
  }

  /** A deleted key whose retention has ended is as good as purged, though still in the file. */
  #isDeleted(name: string, state = this.#state): boolean {
    const deleted = ownKey(state, name)?.deleted;
    return deleted !== undefined && this.#nowS() < deleted.scheduledPurgeDate;
  }

  #isLive(name: string, state = this.#state): boolean {
    const key = ownKey(state, name);
    return key !== undefined && key.deleted === undefined;
  }

  #liveKey(name: string, version: string, state = this.#state): StoredKey {
    const key = this.#isLive(name, state) ? ownKey(state, name) : undefined;
    if (key === undefined) throw keyNotFound(version === '' ? name : `${name}/${version}`);
    return key;
  }

  #assertCreatable(name: string, state = this.#state): void {
    if (this.#isDeleted(name, state)) throw nameIsDeleted(name);
    const known = ownKey(state, name);
    const isFull =
      known === undefined
        ? Object.keys(state.keys).length >= KEYS_MAX
        : known.versions.length >= VERSIONS_MAX;
    if (isFull) {
      throw badParameter(
        `This vault holds at most ${KEYS_MAX} keys and ${VERSIONS_MAX} versions of each.`,
      );
    }
  }

  #forget(draft: VaultState, name: string): void {
    draft.keys = Object.fromEntries(Object.entries(draft.keys).filter(([key]) => key !== name));
    this.#cache.clear();
  }

  #newVersion(request: CreateRequest, privateKeyPem: string): StoredKeyVersion {
    const nowS = this.#nowS();
    const { kty } = request.spec;
    return {
      version: randomBytes(16).toString('hex'),
      kty,
      keyOps: request.keyOps ?? defaultOperations(kty),
      privateKeyPem,
      enabled: request.enabled ?? true,
      ...(request.nbf === undefined ? {} : { nbf: request.nbf }),
      ...(request.exp === undefined ? {} : { exp: request.exp }),
      created: nowS,
      updated: nowS,
      tags: request.tags ?? {},
    };
  }
}

/** A plain property access would find `constructor` and the like, which are valid key names. */
function ownKey(state: VaultState, name: string): StoredKey | undefined {
  return Object.hasOwn(state.keys, name) ? state.keys[name] : undefined;
}

function find(key: StoredKey, name: string, version: string): NamedVersion {
  const found =
    version === '' ? key.versions.at(-1) : key.versions.find((each) => each.version === version);
  if (found === undefined) throw keyNotFound(`${name}/${version}`);
  return { name, version: found };
}

function defaultOperations(kty: KeySpec['kty']): KeyOperation[] {
  return kty === 'EC'
    ? ['sign', 'verify']
    : ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
}

function setDate(
  stored: StoredKeyVersion,
  member: 'nbf' | 'exp',
  value: number | null | undefined,
): void {
  if (value !== undefined) stored[member] = value ?? undefined;
}

/** `P90D`, `P3M`, `P2Y` as seconds, with the service's 30-day month and 365-day year. */
function parsePeriodS(period: string): number {
  const match = /^P(\d{1,4})([DMY])$/.exec(period);
  const days = { D: 1, M: 30, Y: 365 }[match?.[2] ?? ''];
  if (days === undefined) {
    throw badParameter(`expiryTime ${JSON.stringify(period)} is not a period such as P90D or P2Y.`);
  }
  return Number(match?.[1]) * days * DAY_S;
}

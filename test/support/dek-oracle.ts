// SPDX-License-Identifier: Apache-2.0
import { constants, createDecipheriv, privateDecrypt } from 'node:crypto';
import { open, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runOk } from './process.js';
import type { Stack } from './stack.js';

/** Where data begins in a store (reference: LUKS2 segment offset that Keyhold writes). */
const DATA_OFFSET_BYTES = 16 * 1024 * 1024;

interface Token {
  diskUuid: string;
  set: { id: string };
  setKeyGeneration: number;
  dekGeneration: number;
  wrappedSetKeys: Array<{ kid: string; value: string }>;
  sealedDek: SealedDek;
}

interface SealedDek {
  nonce: string;
  ciphertext: string;
  tag: string;
}

interface VaultFile {
  keys: Record<string, { versions: Array<{ version: string; privateKeyPem: string }> }>;
}

/** A second implementation of the way from the vault's private key to a sector's plaintext. */
export interface StoreOracle {
  readonly setKey: Buffer;
  readonly dek: Buffer;
  ciphertext(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
  decrypt(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

/**
 * Opens a store with nothing of Keyhold's: cryptsetup exports the token, node:crypto (OpenSSL)
 * unwraps, unseals and decrypts, with the numbering of dm-crypt's plain64.
 */
export async function openStore(stack: Stack, path: string): Promise<StoreOracle> {
  const token = JSON.parse(await exportToken(path)) as Token;
  const header = await runOk('cryptsetup', ['luksDump', path]);
  const sectorSizeBytes = Number(/sector: (\d+) \[bytes\]/.exec(header)?.[1]);
  const setKey = await unwrap(stack, token);
  const dek = unseal(token, setKey);
  const read = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> => {
    const file = await open(path, 'r');
    try {
      const buffer = Buffer.alloc(lengthBytes);
      await file.read(buffer, 0, lengthBytes, DATA_OFFSET_BYTES + offsetBytes);
      return buffer;
    } finally {
      await file.close();
    }
  };
  return {
    setKey,
    dek,
    ciphertext: read,
    decrypt: async (offsetBytes, lengthBytes) =>
      decryptSectors(dek, await read(offsetBytes, lengthBytes), offsetBytes, sectorSizeBytes),
  };
}

async function unwrap(stack: Stack, token: Token): Promise<Buffer> {
  const wrapped = token.wrappedSetKeys[0];
  if (wrapped === undefined) throw new Error('token without a wrapped set key');
  const [, name = '', version = ''] = /\/keys\/([^/]+)\/([^/]+)$/.exec(wrapped.kid) ?? [];
  const vault = await readVaultFile(join(stack.dir, 'vault'));
  const key = vault.keys[name]?.versions.find((entry) => entry.version === version);
  if (key === undefined) throw new Error(`the vault has no key ${name} ${version}`);
  return privateDecrypt(
    { key: key.privateKeyPem, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' },
    Buffer.from(wrapped.value, 'base64'),
  );
}

async function readVaultFile(dir: string): Promise<VaultFile> {
  for (const name of await readdir(dir)) {
    if (!name.endsWith('.json')) continue;
    const parsed = JSON.parse(await readFile(join(dir, name), 'utf8')) as Partial<VaultFile>;
    if (parsed.keys !== undefined) return { keys: parsed.keys };
  }
  throw new Error(`no vault state in ${dir}`);
}

function unseal(token: Token, setKey: Buffer): Buffer {
  const aad = Buffer.concat([
    Buffer.from('keyhold-dek\0', 'latin1'),
    uint32(1),
    uuid(token.diskUuid),
    uuid(token.set.id),
    uint32(token.setKeyGeneration),
    uint32(token.dekGeneration),
  ]);
  return openSealed(setKey, token.sealedDek, aad);
}

function openSealed(key: Buffer, sealed: SealedDek, aad: Buffer): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(sealed.nonce, 'base64'));
  decipher.setAAD(aad);
  decipher.setAuthTag(Buffer.from(sealed.tag, 'base64'));
  const opened = decipher.update(Buffer.from(sealed.ciphertext, 'base64'));
  return Buffer.concat([opened, decipher.final()]);
}

interface OuterToken {
  diskUuid: string;
  dekGeneration: number;
  sealedDek: SealedDek;
}

export interface DoubleStoreOracle {
  readonly outerDek: Buffer;
  readonly setKey: Buffer;
  readonly innerDek: Buffer;
  /** Of sectors that were written: a hole is not looked for. */
  decrypt(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

/** Enough of a container for cryptsetup to read its token: both copies of the header. */
const HEADERS_BYTES = 32 * 1024;

/**
 * Opens the outer layer of a store that is encrypted twice, and both keys of the inner one, which
 * needs the file of the platform key and a directory for a copy of the inner header.
 */
export async function openDoubleStore(
  stack: Stack,
  path: string,
  { platformKey, dir }: { platformKey: Buffer; dir: string },
): Promise<DoubleStoreOracle> {
  const outer = JSON.parse(await exportToken(path)) as OuterToken;
  const aad = Buffer.concat([
    Buffer.from('keyhold-dek\0', 'latin1'),
    uint32(2),
    uuid(outer.diskUuid),
    Buffer.alloc(20), // no set, no generation of its key
    uint32(outer.dekGeneration),
  ]);
  const outerDek = openSealed(platformKey, outer.sealedDek, aad);
  const header = await runOk('cryptsetup', ['luksDump', path]);
  const sectorSizeBytes = Number(/sector: (\d+) \[bytes\]/.exec(header)?.[1]);
  /** At an offset in the outer container. */
  const readOuter = async (offsetBytes: number, lengthBytes: number): Promise<Buffer> => {
    const stored = Buffer.alloc(lengthBytes);
    const file = await open(path, 'r');
    await file.read(stored, 0, lengthBytes, DATA_OFFSET_BYTES + offsetBytes);
    await file.close();
    return decryptSectors(outerDek, stored, offsetBytes, sectorSizeBytes);
  };
  const copy = join(dir, 'inner-header');
  await writeFile(copy, await readOuter(0, HEADERS_BYTES));
  await truncate(copy, 2 * DATA_OFFSET_BYTES); // a device that is too short is refused
  const inner = JSON.parse(await exportToken(copy)) as Token;
  const setKey = await unwrap(stack, inner);
  const innerDek = unseal(inner, setKey);
  return {
    outerDek,
    setKey,
    innerDek,
    decrypt: async (offsetBytes, lengthBytes) => {
      const stored = await readOuter(DATA_OFFSET_BYTES + offsetBytes, lengthBytes);
      return decryptSectors(innerDek, stored, offsetBytes, sectorSizeBytes);
    },
  };
}

function exportToken(path: string): Promise<string> {
  return runOk('cryptsetup', ['token', 'export', '--token-id', '0', path]);
}

function decryptSectors(
  dek: Buffer,
  ciphertext: Buffer,
  offsetBytes: number,
  sectorSizeBytes: number,
): Buffer {
  const plaintext: Buffer[] = [];
  for (let at = 0; at < ciphertext.length; at += sectorSizeBytes) {
    const tweak = Buffer.alloc(16);
    tweak.writeBigUInt64LE(BigInt((offsetBytes + at) / 512));
    const decipher = createDecipheriv('aes-256-xts', dek, tweak);
    plaintext.push(decipher.update(ciphertext.subarray(at, at + sectorSizeBytes)));
  }
  return Buffer.concat(plaintext);
}

/**
 * The 15 round keys of AES-256, computed one by one from the key with ECB as the only primitive.
 */
export function expandAes256(key: Buffer): Buffer[] {
  const words: Buffer[] = [];
  for (let index = 0; index < 8; index += 1) words.push(key.subarray(index * 4, index * 4 + 4));
  let constant = 1;
  for (let index = 8; index < 60; index += 1) {
    let word: Buffer = Buffer.from(words[index - 1] ?? []);
    if (index % 8 === 0) {
      word = substitute(Buffer.from([word[1] ?? 0, word[2] ?? 0, word[3] ?? 0, word[0] ?? 0]));
      word[0] = (word[0] ?? 0) ^ constant;
      constant = (constant << 1) ^ (constant & 0x80 ? 0x11b : 0);
    } else if (index % 8 === 4) {
      word = substitute(word);
    }
    const back = words[index - 8] ?? Buffer.alloc(4);
    words.push(Buffer.from(word.map((byte, at) => byte ^ (back[at] ?? 0))));
  }
  return Array.from({ length: 15 }, (_, round) =>
    Buffer.concat(words.slice(round * 4, round * 4 + 4)),
  );
}

let sbox: Buffer | undefined;

/** AES's S-box from its definition: inverse in GF(2^8), then the affine map. */
function substitute(word: Buffer): Buffer {
  sbox ??= buildSbox();
  return Buffer.from(word.map((byte) => sbox?.[byte] ?? 0));
}

function buildSbox(): Buffer {
  const box = Buffer.alloc(256);
  for (let value = 0; value < 256; value += 1) {
    let inverse = 0;
    for (let candidate = 1; candidate < 256 && value !== 0; candidate += 1) {
      if (multiply(value, candidate) === 1) inverse = candidate;
    }
    let result = 0x63;
    for (let shift = 0; shift < 5; shift += 1) {
      result ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xff;
    }
    box[value] = result;
  }
  return box;
}

export function multiply(a: number, b: number): number {
  let product = 0;
  for (let left = a, right = b; right !== 0; right >>= 1) {
    if (right & 1) product ^= left;
    left = (left << 1) ^ (left & 0x80 ? 0x11b : 0);
  }
  return product & 0xff;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uuid(text: string): Buffer {
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}

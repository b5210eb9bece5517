// SPDX-License-Identifier: Apache-2.0
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../base/atomic-file.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import {
  encodeBitString,
  encodeObjectIdentifier,
  encodeOctetString,
  encodeSequence,
  encodeSet,
  encodeTime,
  encodeTlv,
  encodeTrue,
  encodeUnsigned,
  encodeUtf8,
} from './der.js';
import { codes } from './errors.js';

const DAY_MS = 86_400_000;
const CA_LIFETIME_MS = 3650 * DAY_MS;
/** Some TLS clients refuse server certificates that live longer than 825 days. */
const SERVER_LIFETIME_MS = 825 * DAY_MS;
/**
 * A certificate with less left than this counts as expired, so that it outlives one run of the
 * vault.
 */
const MARGIN_MS = 7 * DAY_MS;

const LOOPBACK_V4 = Buffer.from([127, 0, 0, 1]);
const LOOPBACK_V6 = Buffer.from([...new Array<number>(15).fill(0), 1]);

/** A certificate and its private key, both PEM. */
export interface Identity {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

export interface VaultCertificates {
  readonly caPath: string;
  readonly ca: Identity;
  readonly server: Identity;
}

/**
 * Reads the CA and the server's certificate from `stateDir`, or makes those that are missing or
 * nearly expired. A CA that is still good is kept, so that clients that trust ca.pem go on working.
 */
export async function loadCertificates(options: {
  stateDir: string;
  /** The address that the server listens on. */
  host: string;
  nowMs: number;
}): Promise<VaultCertificates> {
  const { stateDir, host, nowMs } = options;
  const caPath = join(stateDir, 'ca.pem');
  const found = await readIdentity(stateDir, 'ca');
  const keepsCa = found !== undefined && isCurrent(found, nowMs);
  const ca = keepsCa ? found : createCa(nowMs);
  if (!keepsCa) await writeIdentity(stateDir, 'ca', ca);
  const served = await readIdentity(stateDir, 'server');
  if (served !== undefined && isCurrent(served, nowMs) && serves(served, ca, host)) {
    return { caPath, ca, server: served };
  }
  const server = createServerIdentity(ca, { host, nowMs });
  await writeIdentity(stateDir, 'server', server);
  return { caPath, ca, server };
}

/**
 * A CA that can vouch for loopback and nothing else: name constraints keep its key, which lies in a
 * developer's cache directory, from being worth stealing even where somebody trusted it
 * system-wide.
 */
export function createCa(nowMs: number): Identity {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  // The random part tells the CAs of different state directories apart.
  const name = encodeName(`Keyhold embedded vault CA ${randomBytes(4).toString('hex')}`);
  return issue({
    subject: name,
    issuer: name,
    subjectKey: publicKey,
    subjectPrivateKey: privateKey,
    issuerKey: privateKey,
    nowMs,
    lifetimeMs: CA_LIFETIME_MS,
    extensions: [
      extension('2.5.29.19', true, encodeSequence(encodeTrue(), encodeUnsigned(Buffer.from([0])))),
      // keyCertSign and cRLSign.
      extension('2.5.29.15', true, encodeBitString(Buffer.from([0b0000_0110]), 1)),
      extension('2.5.29.14', false, encodeOctetString(keyIdentifier(publicKey))),
      extension('2.5.29.30', true, encodeSequence(encodeTlv(0xa0, ...permittedNames()))),
    ],
  });
}

/** A server certificate for 127.0.0.1, ::1, localhost and `host`, an address of loopback. */
export function createServerIdentity(
  ca: Identity,
  { host, nowMs }: { host: string; nowMs: number },
): Identity {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const issuerKey = createPrivateKey(ca.privateKeyPem);
  const caCertificate = new X509Certificate(ca.certificatePem);
  return issue({
    subject: encodeName('Keyhold embedded vault'),
    issuer: encodeName(caCertificate.subject.replace(/^CN=/, '')),
    subjectKey: publicKey,
    subjectPrivateKey: privateKey,
    issuerKey,
    nowMs,
    lifetimeMs: SERVER_LIFETIME_MS,
    extensions: [
      extension('2.5.29.19', true, encodeSequence()),
      // digitalSignature: all that an ECDSA key does in TLS 1.2 and 1.3.
      extension('2.5.29.15', true, encodeBitString(Buffer.from([0b1000_0000]), 7)),
      extension('2.5.29.37', false, encodeSequence(encodeObjectIdentifier('1.3.6.1.5.5.7.3.1'))),
      extension('2.5.29.17', false, encodeSequence(...subjectNames(host))),
      extension('2.5.29.14', false, encodeOctetString(keyIdentifier(publicKey))),
      extension(
        '2.5.29.35',
        false,
        encodeSequence(encodeTlv(0x80, keyIdentifier(caCertificate.publicKey))),
      ),
    ],
  });
}

interface Issue {
  subject: Buffer;
  issuer: Buffer;
  subjectKey: KeyObject;
  subjectPrivateKey: KeyObject;
  issuerKey: KeyObject;
  nowMs: number;
  lifetimeMs: number;
  extensions: Buffer[];
}

/** RFC 5280 section 4.1: builds and signs a certificate with ECDSA over SHA-256. */
function issue(request: Issue): Identity {
  const algorithm = encodeSequence(encodeObjectIdentifier('1.2.840.10045.4.3.2'));
  const toBeSigned = encodeSequence(
    encodeTlv(0xa0, encodeUnsigned(Buffer.from([2]))),
    encodeUnsigned(randomBytes(16)),
    algorithm,
    request.issuer,
    encodeSequence(
      // A day early, for a client whose clock is behind.
      encodeTime(new Date(request.nowMs - DAY_MS)),
      encodeTime(new Date(request.nowMs + request.lifetimeMs)),
    ),
    request.subject,
    request.subjectKey.export({ type: 'spki', format: 'der' }),
    encodeTlv(0xa3, encodeSequence(...request.extensions)),
  );
  const signature = sign('sha256', toBeSigned, { key: request.issuerKey, dsaEncoding: 'der' });
  const certificate = encodeSequence(toBeSigned, algorithm, encodeBitString(signature));
  return {
    certificatePem: new X509Certificate(certificate).toString(),
    privateKeyPem: request.subjectPrivateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
  };
}

function encodeName(commonName: string): Buffer {
  const attribute = encodeSequence(encodeObjectIdentifier('2.5.4.3'), encodeUtf8(commonName));
  return encodeSequence(encodeSet(attribute));
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  const parts = [encodeObjectIdentifier(id), ...(isCritical ? [encodeTrue()] : [])];
  return encodeSequence(...parts, encodeOctetString(value));
}

/** RFC 5280 section 4.2.1.2, method 1, over the whole key info: any unique value serves. */
function keyIdentifier(key: KeyObject): Buffer {
  return createHash('sha1')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest();
}

/** GeneralName: [2] dNSName, [7] iPAddress. */
function subjectNames(host: string): Buffer[] {
  const isCommon = host === '127.0.0.1' || host === '::1';
  return [
    encodeTlv(0x82, Buffer.from('localhost', 'ascii')),
    encodeTlv(0x87, LOOPBACK_V4),
    encodeTlv(0x87, LOOPBACK_V6),
    ...(isCommon ? [] : [encodeTlv(0x87, Buffer.from(host.split('.').map(Number)))]),
  ];
}

/** GeneralSubtree: an address is followed by its mask (127.0.0.0/8 and ::1/128). */
function permittedNames(): Buffer[] {
  const v4 = Buffer.from([127, 0, 0, 0, 255, 0, 0, 0]);
  const v6 = Buffer.concat([LOOPBACK_V6, Buffer.alloc(16, 0xff)]);
  return [
    encodeSequence(encodeTlv(0x82, Buffer.from('localhost', 'ascii'))),
    encodeSequence(encodeTlv(0x87, v4)),
    encodeSequence(encodeTlv(0x87, v6)),
  ];
}

function isCurrent(identity: Identity, nowMs: number): boolean {
  const certificate = new X509Certificate(identity.certificatePem);
  return (
    Date.parse(certificate.validFrom) <= nowMs &&
    Date.parse(certificate.validTo) - MARGIN_MS > nowMs
  );
}

function serves(identity: Identity, ca: Identity, host: string): boolean {
  const certificate = new X509Certificate(identity.certificatePem);
  return (
    certificate.checkIP(host) !== undefined &&
    certificate.verify(new X509Certificate(ca.certificatePem).publicKey)
  );
}

/** Undefined if neither file is there; an error if the two do not belong together. */
async function readIdentity(stateDir: string, name: string): Promise<Identity | undefined> {
  const certificatePem = await readOptional(join(stateDir, `${name}.pem`));
  const privateKeyPem = await readOptional(join(stateDir, `${name}.key`));
  // A crash between the two writes leaves a key alone, which was never used: start again.
  if (certificatePem === undefined) return undefined;
  try {
    const certificate = new X509Certificate(certificatePem);
    if (privateKeyPem === undefined) throw new Error(`${name}.key is missing`);
    if (!certificate.checkPrivateKey(createPrivateKey(privateKeyPem))) {
      throw new Error(`${name}.key is not the key of ${name}.pem`);
    }
    return { certificatePem, privateKeyPem };
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_CERTIFICATE,
      `cannot use the certificate ${name}.pem in ${stateDir}: ${messageOf(error)}`,
      { fields: { stateDir, name }, cause: error },
    );
  }
}

/** A crash at any point leaves a matching pair, or no certificate at all. */
async function writeIdentity(stateDir: string, name: string, identity: Identity): Promise<void> {
  await rm(join(stateDir, `${name}.pem`), { force: true });
  await writeFileAtomic(join(stateDir, `${name}.key`), identity.privateKeyPem, { mode: 0o600 });
  await writeFileAtomic(join(stateDir, `${name}.pem`), identity.certificatePem, { mode: 0o644 });
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

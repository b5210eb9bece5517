// SPDX-License-Identifier: Apache-2.0
import { KeyClient, type KeyVaultKey } from '@azure/keyvault-keys';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { CachingCredential } from './caching-credential.js';
import { createCapture, runCaptured } from './capture.js';
import { type Classified, classify, type Description } from './classify.js';
import { createSdkOptions } from './client.js';
import { describeAnswer, describeFailure } from './describe.js';
import { codes } from './errors.js';
import { isSameKey, type KeyUrl } from './key-url.js';
import { withLimit } from './limit.js';
import type { VaultTransport } from './transport.js';
import type { CustomerKey } from './types.js';

/** RSA moduli that Key Vault and Managed HSM offer and Azure's own disks accept. */
export const SIZES_BITS = [2048, 3072, 4096];

export const OPERATIONS = ['wrapKey', 'unwrapKey'];

/** Reads a key on a connection of its own and checks that it may serve. Changes nothing. */
export async function fetchKey(request: {
  url: KeyUrl;
  allowPurgeable: boolean;
  credential: CachingCredential;
  transport: VaultTransport;
  clock: Clock;
}): Promise<CustomerKey> {
  const { url } = request;
  const { key, description } = await readKey(request);
  if (key === undefined) throw refusal(url, classify(description));
  return validateKey(key, url, request.allowPurgeable);
}

/** GET, checked for nothing but that a vault answered it. Never rejects. */
export async function readKey(request: {
  url: KeyUrl;
  credential: CachingCredential;
  transport: VaultTransport;
  clock: Clock;
}): Promise<{ key: KeyVaultKey | undefined; description: Description }> {
  const { url, credential, transport, clock } = request;
  const startedBootMs = clock.bootMs();
  const first = await getKeyOnce(request, transport.timeoutMs);
  if (first.description.httpStatus !== 401 || !credential.renewAfterRejection()) return first;
  const leftMs = startedBootMs + transport.timeoutMs - clock.bootMs();
  return getKeyOnce({ url, credential, transport, clock }, leftMs);
}

async function getKeyOnce(
  request: { url: KeyUrl; credential: CachingCredential; transport: VaultTransport; clock: Clock },
  limitMs: number,
): Promise<{ key: KeyVaultKey | undefined; description: Description }> {
  const { url, credential, transport, clock } = request;
  const capture = createCapture(clock);
  const abort = new AbortController();
  try {
    const { agent, options } = await createSdkOptions(transport, false);
    try {
      const client = new KeyClient(url.vaultUrl, credential, options);
      const call = runCaptured(capture, () =>
        client.getKey(url.name, {
          abortSignal: abort.signal,
          requestOptions: { timeout: Math.max(1, Math.ceil(limitMs)) },
          ...(url.version === undefined ? {} : { version: url.version }),
        }),
      );
      const onLimit = (): void => abort.abort();
      const key = await withLimit(call, { clock, operation: 'reading a key', limitMs, onLimit });
      const { answer } = capture;
      if (answer?.status === 200 && answer.kid !== undefined) {
        return { key, description: describeAnswer(answer, clock.nowMs()) };
      }
      const answered = answer === undefined ? {} : describeAnswer(answer, clock.nowMs());
      return { key: undefined, description: { ...answered, unusable: 'NoValue' } };
    } finally {
      agent.destroy();
    }
  } catch (error) {
    return { key: undefined, description: describeFailure(error, capture.answer, clock.nowMs()) };
  }
}

function refusal(url: KeyUrl, verdict: Classified): KeyholdError {
  const status = verdict.httpStatus === undefined ? '' : `, HTTP ${verdict.httpStatus}`;
  const request = verdict.requestId === undefined ? '' : `, request ${verdict.requestId}`;
  const facts = `${verdict.code ?? verdict.class}${status}${request}`;
  return new KeyholdError(
    refusalCode(verdict),
    `cannot read key ${url.id}: ${verdict.message} (${facts})`,
    { fields: { url: url.id, verdict } },
  );
}

function refusalCode(verdict: Classified): string {
  switch (verdict.class) {
    case 'denied-certain':
      if (verdict.code === 'KeyDisabled') return codes.ERR_KEY_DISABLED;
      if (verdict.code === 'KeyNotFound') return codes.ERR_KEY_NOT_FOUND;
      return codes.ERR_KEY_ACCESS;
    case 'denied-propagating':
      return codes.ERR_KEY_ACCESS;
    case 'denied-network':
      return codes.ERR_KEY_NETWORK;
    case 'denied-identity':
      return codes.ERR_KEY_IDENTITY;
    case 'proof':
    case 'integrity':
    case 'no-answer':
    case 'ambiguous':
      return codes.ERR_KEY_NO_ANSWER;
  }
}

function validateKey(key: KeyVaultKey, url: KeyUrl, allowPurgeable: boolean): CustomerKey {
  const { id, properties } = key;
  const fail = (code: string, problem: string, expected: unknown, actual: unknown): never => {
    throw new KeyholdError(code, `cannot use key ${id ?? url.id}: ${problem}`, {
      fields: { url: url.id, expected, actual },
    });
  };
  const version = properties.version ?? '';
  const asked = { name: url.name, version: url.version };
  if (id === undefined || version === '' || !isSameKey(id, asked)) {
    return fail(codes.ERR_KEY_MATERIAL, `asked for ${url.id}`, url.id, id);
  }
  const type = key.keyType ?? 'no type';
  if (type !== 'RSA' && type !== 'RSA-HSM') {
    return fail(codes.ERR_KEY_TYPE, `it is of type ${type}, expected RSA or RSA-HSM`, 'RSA', type);
  }
  const { modulus, exponent } = publicHalf(key, fail);
  const sizeBits = bitLength(modulus);
  if (!SIZES_BITS.includes(sizeBits)) {
    const problem = `it has ${sizeBits} bits, expected ${SIZES_BITS.join(', ')}`;
    return fail(codes.ERR_KEY_SIZE, problem, SIZES_BITS, sizeBits);
  }
  const operations = key.keyOperations ?? [];
  if (!OPERATIONS.every((operation) => operations.includes(operation))) {
    const permitted = operations.join(', ') || 'no operation';
    const problem = `it permits ${permitted}, expected wrapKey and unwrapKey`;
    return fail(codes.ERR_KEY_OPERATIONS, problem, OPERATIONS, operations);
  }
  if (properties.enabled !== true) {
    return fail(codes.ERR_KEY_DISABLED, 'it is disabled, expected enabled', true, false);
  }
  const recoveryLevel = properties.recoveryLevel ?? 'none';
  if (!allowPurgeable && (recoveryLevel === 'none' || recoveryLevel.includes('Purgeable'))) {
    const problem = `its recovery level is ${recoveryLevel}, expected one with purge protection`;
    return fail(codes.ERR_KEY_PURGEABLE, problem, 'Recoverable', recoveryLevel);
  }
  const expiresOnMs = properties.expiresOn?.getTime();
  return {
    kid: `${url.vaultUrl}/keys/${key.name}/${version}`,
    name: key.name,
    version,
    modulus,
    exponent,
    sizeBits,
    hsm: type === 'RSA-HSM',
    recoveryLevel,
    ...(expiresOnMs === undefined ? {} : { expiresOnMs }),
  };
}

/** Modulus and exponent as they go to OpenSSL: both odd, no leading zeros, exponent at least 3. */
function publicHalf(
  key: KeyVaultKey,
  fail: (code: string, problem: string, expected: unknown, actual: unknown) => never,
): { modulus: Uint8Array; exponent: Uint8Array } {
  const modulus = withoutLeadingZeros(key.key?.n);
  const exponent = withoutLeadingZeros(key.key?.e);
  const odd = ((modulus.at(-1) ?? 0) & 1) === 1 && ((exponent.at(-1) ?? 0) & 1) === 1;
  const one = exponent.length === 1 && exponent[0] === 1;
  if (!odd || one || exponent.length > modulus.length) {
    const problem = 'its public half is no RSA public key';
    return fail(codes.ERR_KEY_MATERIAL, problem, 'odd modulus and exponent', 'something else');
  }
  return { modulus, exponent };
}

export function withoutLeadingZeros(bytes: Uint8Array | undefined): Uint8Array {
  const all = new Uint8Array(bytes ?? []);
  const first = all.findIndex((byte) => byte !== 0);
  return first < 0 ? new Uint8Array() : all.slice(first);
}

export function bitLength(bytes: Uint8Array): number {
  const [first] = bytes;
  return first === undefined ? 0 : (bytes.length - 1) * 8 + (32 - Math.clz32(first));
}

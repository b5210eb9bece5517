// SPDX-License-Identifier: Apache-2.0
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type Check, failed, passed, skipped, warned } from '../base/check.js';
import type { Clock } from '../base/clock.js';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { CachingCredential } from './caching-credential.js';
import { type Classified, classify, type Description, isGenuine } from './classify.js';
import { VaultKeyClient } from './client.js';
import { createCredential, type ResolvedIdentity } from './credential.js';
import { readKey } from './customer-key.js';
import { describeCredential, describeFailure, TokenFailure } from './describe.js';
import { fetchGreeting, type Greeting } from './greeting.js';
import { checkIdentity } from './identity-check.js';
import type { IdentityConfig } from './identity-config.js';
import { judge } from './judge.js';
import { checkKey, isRsa, KEY_CHECKS } from './key-checks.js';
import type { KeyUrl } from './key-url.js';
import { withLimit } from './limit.js';
import { describeToken } from './token-facts.js';
import type { VaultTransport } from './transport.js';
import type { Canary } from './types.js';
import { vaultNameOf } from './vault-name.js';

/** Beyond this, tokens and the dates of keys are judged wrongly by one side or the other. */
const CLOCK_DIFFERENCE_MAX_MS = 5 * 60_000;

export interface ExaminationOptions {
  readonly identities: Readonly<Record<string, IdentityConfig>>;
  readonly credentialsDirectory: string | undefined;
  readonly transport: VaultTransport;
  readonly clock: Clock;
  /** Wraps fresh worthless bytes with a public half. Throws for one that is none. */
  readonly makeCanary: (key: { modulus: Uint8Array; exponent: Uint8Array }) => Canary;
}

export interface ExaminationRequest {
  readonly identity: string;
  readonly url: KeyUrl;
  readonly allowPurgeable: boolean;
  /** The set takes the date of a key for a denial. */
  readonly expiryDenies: boolean;
  /** What a set has stored: which version, and the canary that it wrapped. */
  readonly canaries: ReadonlyArray<{ readonly kid: string; readonly canary: Canary }>;
}

/**
 * Looks at everything between this host and a customer key, in the order in which it is needed.
 * Never rejects, changes nothing, and has connections and tokens of its own, so that what it finds
 * is true now and moves no lease. A check that failed ends only those that need what it lacks;
 * each is bounded by the transport's time limit.
 */
export async function examineKey(
  request: ExaminationRequest,
  options: ExaminationOptions,
): Promise<Check[]> {
  const { url } = request;
  const { clock, transport } = options;
  const identity = await checkIdentity(request.identity, options);
  const dns = await checkName(url, options);
  const { checks: met, greeting } = await meet(url, dns, options);
  const { check: token, credential } = await checkToken(identity.resolved, {
    ...options,
    url,
    greeting,
  });
  const checks = [...identity.checks, dns, ...met, token];
  const reached = greeting !== undefined && token.verdict === 'ok' && credential !== undefined;
  if (!reached) {
    const missing = greeting === undefined ? 'a connection' : 'a token';
    return [...checks, ...skipKey(request, `it needs ${missing}`)];
  }
  const { key, description } = await readKey({ url, credential, transport, clock });
  if (key === undefined) checks.push(refused('key', classify(description), description));
  else checks.push(passed('key', key.id ?? url.id, { kid: key.id ?? url.id }));
  checks.push(...describeKey(key, request, options));
  checks.push(...(await checkWrapping(key, credential, options)));
  for (const { kid, canary } of request.canaries) {
    const isNewest = key?.id === undefined ? {} : { isNewest: key.id === kid };
    const verdict = await unwrap('canary', { kid, canary }, credential, options);
    checks.push({ ...verdict, facts: { ...verdict.facts, ...isNewest } });
  }
  return checks;
}

function skipKey(request: ExaminationRequest, why: string): Check[] {
  const canaries = request.canaries.map(() => 'canary');
  return ['key', ...KEY_CHECKS, 'wrap', 'unwrap', ...canaries].map((id) => skipped(id, why));
}

function describeKey(
  key: KeyVaultKey | undefined,
  { allowPurgeable, expiryDenies }: ExaminationRequest,
  { clock }: ExaminationOptions,
): Check[] {
  if (key === undefined) return KEY_CHECKS.map((id) => skipped(id, 'it needs the key'));
  return checkKey(key, { nowMs: clock.nowMs(), allowPurgeable, expiryDenies });
}

async function checkName(url: KeyUrl, options: ExaminationOptions): Promise<Check> {
  const { clock, transport } = options;
  const host = new URL(url.vaultUrl).hostname.replace(/^\[|\]$/g, '');
  if (isIP(host) !== 0) return passed('dns', `${host} is an address`, { host });
  if (transport.proxy !== undefined) return skipped('dns', 'the proxy resolves names');
  const limitMs = transport.timeoutMs;
  try {
    const found = lookup(host, { all: true });
    const addresses = await withLimit(found, { clock, operation: 'resolving a name', limitMs });
    const texts = addresses.map(({ address }) => address);
    return passed('dns', `${host} is ${texts.join(', ')}`, { host, addresses: texts });
  } catch (error) {
    const { code = 'Unexpected' } = classify(describeFailure(error, undefined, clock.nowMs()));
    const message = `cannot resolve ${host}: ${messageOf(error)}`;
    return failed('dns', { code, kind: 'unavailable', message }, { host });
  }
}

/** Connection, TLS, who answers, and what time it is there. */
async function meet(
  url: KeyUrl,
  dns: Check,
  { transport, clock }: ExaminationOptions,
): Promise<{ checks: Check[]; greeting: Greeting | undefined }> {
  const { host } = new URL(url.vaultUrl);
  const later = (why: string): Check[] => ['answer', 'clock'].map((id) => skipped(id, why));
  if (dns.verdict === 'fail') {
    const why = `it needs the address of ${host}`;
    return { checks: [skipped('connect', why), ...later(why)], greeting: undefined };
  }
  try {
    const greeting = await fetchGreeting(url, transport);
    const { protocol, certificate, address } = greeting;
    const { subject, issuer, to } = certificate;
    const message = `${protocol} with ${address}, certificate of ${subject}`;
    const facts = { host, address, protocol, subject, issuer, certificateExpires: to };
    const checks = [
      passed('connect', message, facts),
      checkAnswer(greeting, host),
      checkClock(greeting, clock.nowMs()),
    ];
    return { checks, greeting };
  } catch (error) {
    const code = connectionCode(error, clock.nowMs());
    const message = `cannot connect to ${host}: ${messageOf(error)}`;
    const kind = error instanceof KeyholdError ? 'invalid' : 'unavailable';
    const why = `it needs a connection to ${host}`;
    const check = failed('connect', { code, kind, message }, { host });
    return { checks: [check, ...later(why)], greeting: undefined };
  }
}

function connectionCode(error: unknown, nowMs: number): string {
  if (error instanceof DOMException && error.name === 'TimeoutError') return 'TIMEOUT';
  if (error instanceof Error && error.name === 'AbortError') return 'TIMEOUT';
  const code = codeOf(error);
  if (code !== undefined) return code;
  return classify(describeFailure(error, undefined, nowMs)).code ?? 'Unexpected';
}

function checkAnswer({ status, headers, challenge }: Greeting, host: string): Check {
  const facts = { host, status, ...(challenge === undefined ? {} : challenge) };
  const version = headers['x-ms-keyvault-service-version'];
  const type = headers['content-type'] ?? 'nothing';
  if (challenge === undefined) {
    const code = isGenuine(headers) ? `HTTP${status}` : 'NotFromVault';
    const message = `${host} answered ${status} (${type}) without a challenge, expected 401 with one`;
    return failed('answer', { code, kind: 'unavailable', message }, facts);
  }
  if (!isGenuine(headers)) {
    const message = `${host} answered without x-ms-keyvault headers: no denial would be believed`;
    return warned('answer', 'NotFromVault', message, facts);
  }
  return passed('answer', `Key Vault${version === undefined ? '' : ` ${version}`}`, facts);
}

function checkClock({ headers }: Greeting, nowMs: number): Check {
  const theirsMs = Date.parse(headers['date'] ?? '');
  if (Number.isNaN(theirsMs)) return skipped('clock', 'the answer carries no date');
  const differenceSeconds = Math.round((nowMs - theirsMs) / 1000);
  const facts = { differenceSeconds };
  const side = differenceSeconds < 0 ? 'behind' : 'ahead of';
  const message = `this clock is ${Math.abs(differenceSeconds)} s ${side} the vault's`;
  return Math.abs(nowMs - theirsMs) > CLOCK_DIFFERENCE_MAX_MS
    ? warned('clock', 'ClockDifference', `${message}, expected at most 300 s`, facts)
    : passed('clock', message, facts);
}

async function checkToken(
  identity: ResolvedIdentity | undefined,
  context: ExaminationOptions & { url: KeyUrl; greeting: Greeting | undefined },
): Promise<{ check: Check; credential?: CachingCredential }> {
  const { url, greeting, transport, clock } = context;
  if (identity === undefined) return { check: skipped('token', 'it needs the identity') };
  // Without an answer the vault's domain says what tokens are for; where it does not, nothing does.
  const resource = greeting?.challenge?.resource ?? vaultNameOf(url.vaultUrl).resource;
  if (resource === undefined) return { check: skipped('token', "it needs the vault's challenge") };
  const credential = new CachingCredential({
    create: () => createCredential(identity, transport),
    clock,
    limitMs: transport.timeoutMs,
  });
  const tenantId = greeting?.challenge?.tenantId ?? '';
  try {
    const { token } = await credential.getToken(`${resource}/.default`, {
      enableCae: true,
      ...(tenantId === '' ? {} : { tenantId }),
    });
    const facts = { resource, ...describeToken(token) };
    return { check: passed('token', `for ${resource}`, facts), credential };
  } catch (error) {
    const cause = error instanceof TokenFailure ? error.cause : error;
    const description = { credential: describeCredential(cause, clock.nowMs()) };
    const check = refused('token', classify(description), description);
    const authority = 'authority_host' in identity ? { authority: identity.authority_host } : {};
    return { check: { ...check, facts: { ...check.facts, ...authority, resource, tenantId } } };
  }
}

async function checkWrapping(
  key: KeyVaultKey | undefined,
  credential: CachingCredential,
  options: ExaminationOptions,
): Promise<Check[]> {
  const kid = key?.id;
  if (key === undefined || kid === undefined || !isRsa(key)) {
    const why = key === undefined ? 'it needs the key' : 'it needs an RSA key';
    return ['wrap', 'unwrap'].map((id) => skipped(id, why));
  }
  let canary: Canary;
  try {
    const { n: modulus, e: exponent } = key.key ?? {};
    canary = options.makeCanary({
      modulus: new Uint8Array(modulus ?? []),
      exponent: new Uint8Array(exponent ?? []),
    });
  } catch (error) {
    const message = `cannot wrap with the public half: ${messageOf(error)}`;
    const problem = { code: 'ERR_KEY_MATERIAL', kind: 'integrity', message } as const;
    return [failed('wrap', problem), skipped('unwrap', 'it needs something wrapped')];
  }
  const wrapped = passed('wrap', 'fresh random bytes, wrapped here with the public half');
  return [wrapped, await unwrap('unwrap', { kid, canary }, credential, options)];
}

/** One remote unwrap on a connection of its own. */
async function unwrap(
  id: 'unwrap' | 'canary',
  { kid, canary }: { kid: string; canary: Canary },
  credential: CachingCredential,
  { transport, clock }: ExaminationOptions,
): Promise<Check> {
  const client = new VaultKeyClient({ kid, credential, transport, clock });
  try {
    const startedBootMs = clock.bootMs();
    const outcome = await client.unwrap(canary.wrapped, transport.timeoutMs);
    const durationMs = Math.round(clock.bootMs() - startedBootMs);
    const verdict = judge(outcome, canary.plaintext);
    const facts = { kid, durationMs };
    if (verdict.kind === 'PROOF') return passed(id, `unwrapped in ${durationMs} ms`, facts);
    const check = refused(id, verdict, outcome.description);
    return { ...check, facts: { ...check.facts, ...facts } };
  } finally {
    client.close();
  }
}

function refused(id: string, verdict: Classified, description: Description): Check {
  const { code = verdict.class, requestId, httpStatus, message } = verdict;
  const clientAddress = addressOf(description);
  return failed(
    id,
    { code, kind: kindOf(verdict), message },
    {
      class: verdict.class,
      ...(httpStatus === undefined ? {} : { httpStatus }),
      ...(requestId === undefined ? {} : { vaultRequestId: requestId }),
      ...(clientAddress === undefined ? {} : { clientAddress }),
    },
  );
}

function kindOf(verdict: Classified): 'key-inaccessible' | 'unavailable' | 'integrity' {
  if (verdict.class === 'integrity') return 'integrity';
  return verdict.class.startsWith('denied-') ? 'key-inaccessible' : 'unavailable';
}

/** This host's address as the vault sees it: what its firewall would have to admit. */
function addressOf({ headers, message }: Description): string | undefined {
  const info = headers?.['x-ms-keyvault-network-info'] ?? '';
  const found =
    /\baddr=([0-9A-Fa-f.:]+)/.exec(info) ?? /Client address: ([0-9A-Fa-f.:]+)/.exec(message ?? '');
  const address = found?.[1] ?? '';
  return isIP(address) === 0 ? undefined : address;
}

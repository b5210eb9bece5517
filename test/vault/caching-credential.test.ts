// SPDX-License-Identifier: Apache-2.0
import type { AccessToken, GetTokenOptions } from '@azure/identity';
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { CachingCredential } from '../../src/vault/caching-credential.js';
import { TokenFailure } from '../../src/vault/describe.js';
import { FakeClock } from '../support/fake-clock.js';
import { transpileVault } from './support/transpile.js';

const SCOPE = 'https://vault.azure.net/.default';
const HOUR_MS = 3_600_000;

/** A credential under a fake clock whose answers the test decides. */
class Bench {
  readonly clock = new FakeClock();
  readonly failures: TokenFailure[] = [];
  /** One entry for each credential object that was made. */
  readonly asked: Array<GetTokenOptions & { scopes: string }> = [];
  lifeMs = HOUR_MS;
  answer: () => Promise<AccessToken | null> = () => Promise.resolve(this.token());
  readonly credential = new CachingCredential({
    create: () =>
      Promise.resolve({
        getToken: (scopes: string | string[], options?: GetTokenOptions) => {
          this.asked.push({ ...options, scopes: String(scopes) });
          return this.answer();
        },
      }),
    clock: this.clock,
    limitMs: 5000,
    onFailure: (error) => this.failures.push(error),
  });

  token(): AccessToken {
    return {
      token: `token-${this.asked.length}`,
      expiresOnTimestamp: this.clock.nowMs() + this.lifeMs,
    };
  }

  async get(options?: GetTokenOptions): Promise<string> {
    return (await this.credential.getToken(SCOPE, options)).token;
  }
}

const fail = (): Promise<never> => Promise.reject(new Error('AADSTS90033: unavailable'));
const hang = (): Promise<never> => new Promise(() => undefined);

void test('a token is fetched once and kept', async (t) => {
  const bench = new Bench();
  t.equal(await bench.get(), 'token-1');
  await bench.clock.advance(HOUR_MS / 2);
  t.equal(await bench.get(), 'token-1');
});

void test('calls at once share one fetch', async (t) => {
  const bench = new Bench();
  t.strictSame(await Promise.all([bench.get(), bench.get(), bench.get()]), [
    'token-1',
    'token-1',
    'token-1',
  ]);
});

void test('tenant and scope have tokens of their own', async (t) => {
  const bench = new Bench();
  await bench.get({ tenantId: 'a' });
  await bench.get({ tenantId: 'b' });
  t.strictSame(
    bench.asked.map(({ tenantId }) => tenantId),
    ['a', 'b'],
  );
});

void test('the SDK is told that every token has expired', async (t) => {
  const bench = new Bench();
  const token = await bench.credential.getToken(SCOPE);
  t.equal(token.expiresOnTimestamp, 0);
  t.notOk('refreshAfterTimestamp' in token);
});

void test('a token is renewed five minutes early', async (t) => {
  const bench = new Bench();
  await bench.get();
  await bench.clock.advance(HOUR_MS - 301_000);
  t.equal(await bench.get(), 'token-1');
  await bench.clock.advance(2_000);
  t.equal(await bench.get(), 'token-2');
});

void test('a short token is renewed at three quarters of its life', async (t) => {
  const bench = new Bench();
  bench.lifeMs = 60_000;
  await bench.get();
  await bench.clock.advance(44_000);
  t.equal(await bench.get(), 'token-1');
  await bench.clock.advance(2_000);
  t.equal(await bench.get(), 'token-2');
});

void test('while renewal fails the token in hand is used, and the failure told', async (t) => {
  const bench = new Bench();
  await bench.get();
  await bench.clock.advance(HOUR_MS - 60_000);
  bench.answer = fail;
  t.equal(await bench.get(), 'token-1');
  t.equal(bench.failures.length, 1);
});

void test('a failing renewal is tried every half minute, not on each call', async (t) => {
  const bench = new Bench();
  await bench.get();
  await bench.clock.advance(HOUR_MS - 120_000);
  bench.answer = fail;
  for (let second = 0; second < 60; second += 1) {
    await bench.get();
    await bench.clock.advance(1000);
  }
  t.equal(bench.failures.length, 2);
});

void test('a renewal that hangs holds a call up for a second at most', async (t) => {
  const bench = new Bench();
  await bench.get();
  await bench.clock.advance(HOUR_MS - 60_000);
  bench.answer = hang;
  const got = bench.get();
  await bench.clock.advance(1000);
  t.equal(await got, 'token-1');
  const next = bench.get();
  await bench.clock.advance(0);
  t.equal(await next, 'token-1', 'later calls do not wait again');
});

void test('an expired token is not handed out', async (t) => {
  const bench = new Bench();
  await bench.get();
  bench.answer = fail;
  await bench.clock.advance(HOUR_MS);
  await t.rejects(bench.get(), TokenFailure);
});

void test('a token endpoint that hangs is ended by the limit', async (t) => {
  const bench = new Bench();
  bench.answer = hang;
  const got = t.rejects(bench.get(), TokenFailure);
  await bench.clock.advance(5000);
  await got;
  t.match(bench.failures[0]?.cause, { name: 'LimitExceeded' });
});

void test('a failure is remembered for a second, so that many keys make one request', async (t) => {
  const bench = new Bench();
  bench.answer = fail;
  for (let count = 0; count < 5; count += 1) await t.rejects(bench.get(), TokenFailure);
  t.equal(bench.asked.length, 1);
  await bench.clock.advance(1000);
  bench.answer = () => Promise.resolve(bench.token());
  t.equal(await bench.get(), 'token-2');
});

void test('every fetch has a credential object of its own', async (t) => {
  const objects: object[] = [];
  const clock = new FakeClock();
  const credential = new CachingCredential({
    create: () => {
      const made = { getToken: fail };
      objects.push(made);
      return Promise.resolve(made);
    },
    clock,
    limitMs: 5000,
  });
  await t.rejects(credential.getToken(SCOPE));
  await clock.advance(1000);
  await t.rejects(credential.getToken(SCOPE));
  t.equal(new Set(objects).size, 2);
});

void test('a credential that cannot be made is a token failure', async (t) => {
  const clock = new FakeClock();
  const create = (): Promise<never> => Promise.reject(new Error('no such file'));
  const credential = new CachingCredential({ create, clock, limitMs: 5000 });
  await t.rejects(credential.getToken(SCOPE), TokenFailure);
});

void test('a credential that returns no token is a token failure', async (t) => {
  const bench = new Bench();
  bench.answer = () => Promise.resolve(null);
  await t.rejects(bench.get(), TokenFailure);
});

void test('claims bring a new token whatever the age of the old one', async (t) => {
  const bench = new Bench();
  await bench.get();
  t.equal(await bench.get({ claims: '{}' }), 'token-2');
  t.equal(bench.asked[1]?.claims, '{}');
  t.equal(await bench.get(), 'token-2');
});

void test('a refused token is replaced once it is half a minute old', async (t) => {
  const bench = new Bench();
  await bench.get();
  t.equal(bench.credential.renewAfterRejection(), false);
  await bench.clock.advance(30_000);
  t.equal(bench.credential.renewAfterRejection(), true);
  t.equal(await bench.get(), 'token-2');
});

void test('without a token there is nothing to replace', (t) => {
  t.equal(new Bench().credential.renewAfterRejection(), false);
  t.end();
});

void test('drop makes the next call fetch', async (t) => {
  const bench = new Bench();
  await bench.get();
  bench.credential.drop();
  t.equal(await bench.get(), 'token-2');
});

void test('challenges with ever new tenants do not fill memory', async (t) => {
  const bench = new Bench();
  for (let tenant = 0; tenant < 20; tenant += 1) await bench.get({ tenantId: `t${tenant}` });
  await bench.get({ tenantId: 't0' });
  t.equal(bench.asked.length, 21, 'the first one was forgotten');
});

void test('a fetch that fails after everybody left does not end the process', async (t) => {
  const bench = new Bench();
  await bench.get();
  await bench.clock.advance(HOUR_MS - 60_000);
  let reject: (error: Error) => void = () => undefined;
  bench.answer = () =>
    new Promise((_resolve, refuse) => {
      reject = refuse;
    });
  const got = bench.get();
  await bench.clock.advance(1000);
  await got;
  reject(new Error('late'));
  await bench.clock.settle();
  t.equal(bench.failures.length, 1);
});

/**
 * A process with the real SDK, a vault that answers, and a credential whose tokens live two seconds
 * and which fails from the second fetch on. Nobody calls the client when the token expires.
 */
const HAZARD = `
import { CryptographyClient } from '@azure/keyvault-keys';
import { createHttpHeaders } from '@azure/core-rest-pipeline';
import { CachingCredential } from './vault/caching-credential.js';
const httpClient = {
  sendRequest: async (request) => {
    const bare = request.headers.get('authorization') === undefined;
    const headers = createHttpHeaders(bare ? { 'www-authenticate':
      'Bearer authorization="https://login/tenant", resource="https://vault.azure.net"' } : {});
    const bodyAsText = bare ? '{"error":{"code":"Unauthorized"}}' : '{"kid":"k","value":"AAAA"}';
    return { request, status: bare ? 401 : 200, headers, bodyAsText };
  },
};
let fetched = 0;
const raw = { getToken: async () => {
  fetched += 1;
  if (fetched > 1) throw new Error('the authority is gone');
  return { token: 't', expiresOnTimestamp: Date.now() + 2000 };
} };
const clock = { nowMs: Date.now, bootMs: () => performance.now(), setTimer: (ms, fire) => {
  const timer = setTimeout(fire, ms);
  return { cancel: () => clearTimeout(timer) };
} };
const wrapped = new CachingCredential({ create: async () => raw, clock, limitMs: 1000 });
const credential = process.argv[2] === 'raw' ? raw : wrapped;
const name = 'k';
const key = { id: 'https://v.vault.azure.net/keys/k/1', name, properties: { name, vaultUrl: '' } };
const client = new CryptographyClient(key, credential, { httpClient });
for (let call = 0; call < 2; call += 1) {
  await client.unwrapKey('RSA-OAEP-256', Buffer.alloc(256)).catch((error) => error);
}
if (process.argv[3] === 'calling') {
  const failures = new Set();
  const calling = setInterval(() => {
    const call = client.unwrapKey('RSA-OAEP-256', Buffer.alloc(256));
    call.catch((error) => failures.add(error.name));
  }, 200);
  setTimeout(() => {
    clearInterval(calling);
    process.stdout.write([...failures, fetched > 1 ? 'renewed in vain, ' : ''].join(', '));
  }, 4000);
}
setTimeout(() => process.stdout.write('still here'), 4500);
`;

function runHazard(
  t: Test,
  credential: 'raw' | 'wrapped',
  use: 'idle' | 'calling' = 'idle',
): { status: number | null; out: string } {
  const program = transpileVault();
  t.teardown(() => rmSync(program, { recursive: true, force: true }));
  writeFileSync(join(program, 'hazard.js'), HAZARD);
  const args = [join(program, 'hazard.js'), credential, use];
  const { status, stdout } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { status, out: stdout };
}

void test('the SDK alone ends the process when a background renewal fails', (t) => {
  const { status, out } = runHazard(t, 'raw');
  t.equal(status, 1);
  t.notMatch(out, 'still here');
  t.end();
});

void test('behind this credential the same process lives on', (t) => {
  t.strictSame(runHazard(t, 'wrapped'), { status: 0, out: 'still here' });
  t.end();
});

void test('a renewal that fails until the token has expired is no unhandled rejection', (t) => {
  // One that went unhandled would end the process with status 1.
  const { status, out } = runHazard(t, 'wrapped', 'calling');
  t.strictSame({ status, out }, { status: 0, out: 'TokenFailure, renewed in vain, still here' });
  t.end();
});

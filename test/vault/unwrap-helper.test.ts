// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { KeyholdError } from '../../src/base/errors.js';
import type { ClosableVaultAccess } from '../../src/vault/access.js';
import type { Verdict } from '../../src/vault/types.js';
import { HELPERS_MAX, type HelperCommand } from '../../src/vault/unwrap-helper.js';
import { errorBody, REQUEST_ID } from './support/fake-vault.js';
import { FifoPipe, TestSetKey } from './support/fifo-pipe.js';
import { Rig } from './support/rig.js';
import { transpileVault } from './support/transpile.js';

const program = transpileVault();
writeFileSync(
  join(program, 'helper.js'),
  "import { runUnwrapChild } from './vault/unwrap-child.js';\nawait runUnwrapChild();\n",
);
process.once('exit', () => rmSync(program, { recursive: true, force: true }));

const realHelper: HelperCommand = {
  execPath: process.execPath,
  args: [join(program, 'helper.js')],
};

/** A helper that runs `code` instead. */
function scripted(code: string): HelperCommand {
  return { execPath: process.execPath, args: ['-e', code] };
}

interface Bench {
  readonly rig: Rig;
  readonly pipe: FifoPipe;
  readonly access: ClosableVaultAccess;
  readonly setKey: Buffer;
  unwrap(timeoutMs?: number): Promise<{ key: TestSetKey; requestId: string | undefined }>;
  refusal(timeoutMs?: number): Promise<{ code: string; verdict: Verdict; message: string }>;
}

async function start(t: Test, helperCommand = realHelper, pipe = new FifoPipe()): Promise<Bench> {
  const rig = await Rig.start();
  t.teardown(() => rig.stop());
  const access = rig.access({ secretPipe: pipe, helperCommand });
  const setKey = randomBytes(32);
  const wrapped = rig.vault.wrap(setKey);
  const unwrap: Bench['unwrap'] = async (timeoutMs = 20_000) => {
    const request = { identity: 'prod', kid: rig.vault.kid, wrapped, timeoutMs };
    const result = await access.unwrapSetKey(request);
    if (!(result.key instanceof TestSetKey)) throw new TypeError('not a key of this pipe');
    return { ...result, key: result.key };
  };
  const refusal: Bench['refusal'] = async (timeoutMs) => {
    try {
      await unwrap(timeoutMs);
    } catch (error) {
      if (!(error instanceof KeyholdError)) throw error;
      const verdict = error.fields['verdict'] as Verdict;
      return { code: error.code, verdict, message: error.message };
    }
    throw new Error('the unwrap succeeded');
  };
  return { rig, pipe, access, setKey, unwrap, refusal };
}

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

void test('a set key comes through the pipe, and every descriptor is closed', async (t) => {
  const bench = await start(t);
  const { key, requestId } = await bench.unwrap();
  t.same(key.bytes, bench.setKey);
  t.equal(key.wiped, false);
  t.equal(requestId, REQUEST_ID);
  t.equal(bench.pipe.leaked, 0);
  t.strictSame(new Set(bench.rig.vault.requests.map(({ method }) => method)), new Set(['POST']));
});

void test('a disabled key is a denial, and nothing comes through the pipe', async (t) => {
  const bench = await start(t);
  const body = errorBody('Forbidden', 'KeyDisabled');
  bench.rig.vault.onUnwrap = () => ({ status: 403, body });
  const { code, verdict } = await bench.refusal();
  t.equal(code, 'ERR_KEY_UNWRAP_DENIED');
  t.match(verdict, { kind: 'DENIED', reason: 'key-disabled', requestId: REQUEST_ID });
  t.ok(verdict.startedBootMs > 0 && verdict.durationMs > 0);
  t.equal(bench.pipe.received.length, 0);
  t.equal(bench.pipe.leaked, 0);
});

void test('a vault that fails is no denial', async (t) => {
  const bench = await start(t);
  bench.rig.vault.onUnwrap = () => ({ status: 503, headers: { 'retry-after': '3' } });
  const { code, verdict } = await bench.refusal();
  t.equal(code, 'ERR_KEY_UNWRAP_NO_ANSWER');
  t.match(verdict, { kind: 'NO-ANSWER', httpStatus: 503, retryAfterMs: 3000 });
});

void test('a lost identity keeps its class', async (t) => {
  const bench = await start(t);
  bench.rig.vault.onToken = () => ({
    status: 401,
    body: { error: 'invalid_client', error_description: 'AADSTS7000215: Invalid client secret.' },
  });
  const { code, verdict } = await bench.refusal();
  t.equal(code, 'ERR_KEY_UNWRAP_NO_ANSWER');
  t.match(verdict, { class: 'denied-identity', code: 'AADSTS7000215' });
});

void test('a value of another length is an integrity fault and goes nowhere', async (t) => {
  const bench = await start(t);
  const value = randomBytes(31).toString('base64url');
  bench.rig.vault.onUnwrap = () => ({ body: { kid: bench.rig.vault.kid, value } });
  const { code, verdict } = await bench.refusal();
  t.equal(code, 'ERR_KEY_UNWRAP_DENIED');
  t.match(verdict, { class: 'integrity', reason: 'integrity', message: /32 bytes/ });
  t.equal(bench.pipe.received.length, 0);
});

void test('a value for another key goes nowhere', async (t) => {
  const bench = await start(t);
  const value = randomBytes(32).toString('base64url');
  const kid = `${bench.rig.vault.origin}/keys/other/1`;
  bench.rig.vault.onUnwrap = () => ({ body: { kid, value } });
  t.match(await bench.refusal(), { verdict: { class: 'ambiguous', code: 'KidMismatch' } });
  t.equal(bench.pipe.received.length, 0);
});

void test('a vault that hangs is reported by the helper within the limit', async (t) => {
  const bench = await start(t);
  bench.rig.vault.onUnwrap = () => ({ stall: 'headers' });
  const { verdict } = await bench.refusal(3000);
  t.match(verdict, {
    kind: 'NO-ANSWER',
    code: 'TIMEOUT',
    message: 'no answer within the time limit',
  });
  t.ok(verdict.durationMs < 3500, `${verdict.durationMs} ms`);
});

void test('a helper that hangs is killed at the limit', async (t) => {
  const bench = await start(t, scripted('setInterval(() => {}, 1000)'));
  const { verdict } = await bench.refusal(700);
  t.match(verdict, { kind: 'NO-ANSWER', code: 'TIMEOUT', message: /ended after 700 ms/ });
  t.equal(bench.pipe.leaked, 0);
});

void test('a helper that dies without a word is no answer', async (t) => {
  const bench = await start(t, scripted('process.exit(7)'));
  t.match(await bench.refusal(), { verdict: { code: 'HelperEnded', message: /exit code 7/ } });
  t.equal(bench.pipe.leaked, 0);
});

void test('a helper that a signal ends is no answer', async (t) => {
  const bench = await start(t, scripted("process.kill(process.pid, 'SIGSEGV')"));
  t.match(await bench.refusal(), { verdict: { code: 'HelperEnded', message: /SIGSEGV/ } });
});

void test('a program that is not there is no answer and leaks nothing', async (t) => {
  const bench = await start(t, { execPath: '/nonexistent/node', args: [] });
  await bench.refusal();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const before = openDescriptors();
  t.match(await bench.refusal(), {
    code: 'ERR_KEY_UNWRAP_NO_ANSWER',
    verdict: { message: /ENOENT/ },
  });
  t.equal(bench.pipe.leaked, 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(openDescriptors(), before);
});

void test('a pipe that cannot be made is no answer', async (t) => {
  class NoPipe extends FifoPipe {
    override createPipe(): never {
      throw Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    }
  }
  const bench = await start(t, realHelper, new NoPipe());
  t.match(await bench.refusal(), { verdict: { kind: 'NO-ANSWER', code: 'EMFILE' } });
});

void test('a key without the helper’s word for it is wiped', async (t) => {
  const write = "require('fs').writeSync(3, Buffer.alloc(32, 1)); process.exit(0)";
  const bench = await start(t, scripted(write));
  t.match(await bench.refusal(), { verdict: { kind: 'NO-ANSWER', code: 'HelperEnded' } });
  t.equal(bench.pipe.received[0]?.wiped, true);
});

void test('a key beside a refusal is wiped, and the refusal counts', async (t) => {
  const verdict = { kind: 'DENIED', class: 'denied-certain', reason: 'key-disabled', message: 'm' };
  const answer = JSON.stringify({ ok: false, verdict });
  const say = `console.log(${JSON.stringify(answer)})`;
  const code = `require('fs').writeSync(3, Buffer.alloc(32, 1)); ${say}`;
  const bench = await start(t, scripted(code));
  t.match(await bench.refusal(), { code: 'ERR_KEY_UNWRAP_DENIED' });
  t.equal(bench.pipe.received[0]?.wiped, true);
});

void test('a success without a key names what native memory said', async (t) => {
  const bench = await start(t, scripted('console.log(JSON.stringify({ ok: true }))'));
  t.match(await bench.refusal(), { verdict: { message: /did not take it: received 0 bytes/ } });
});

void test('output that is no answer is not taken for one', async (t) => {
  const bench = await start(
    t,
    scripted('console.log(\'{"ok":false,"verdict":{"kind":"PROOF"}}\')'),
  );
  t.match(await bench.refusal(), { verdict: { kind: 'NO-ANSWER', code: 'HelperEnded' } });
});

void test('a helper finds no secret in its arguments and nothing in its environment', async (t) => {
  const dump = join(program, `dump-${process.pid}.json`);
  const code = `require('fs').writeFileSync(${JSON.stringify(dump)}, JSON.stringify({
    env: process.env, argv: process.argv, fds: require('fs').readdirSync('/proc/self/fd'),
    request: require('fs').readFileSync(0, 'utf8') }))`;
  const bench = await start(t, {
    ...scripted(code),
    env: {
      NODE_OPTIONS: '--inspect',
      HTTPS_PROXY: 'http://p',
      SECRET: 's',
      SSL_CERT_DIR: '/certs',
    },
  });
  await bench.refusal();
  const seen = JSON.parse(readFileSync(dump, 'utf8')) as {
    env: Record<string, string>;
    request: string;
  };
  // The test runner adds variables of its own to every child.
  const names = Object.keys(seen.env).filter((name) => !/TAPJS|^NODE_OPTIONS$/.test(name));
  t.strictSame(names, ['SSL_CERT_DIR']);
  t.notMatch(seen.env['NODE_OPTIONS'] ?? '', '--inspect');
  t.notMatch(seen.request, 'a client secret');
  t.match(seen.request, '"secret_file"');
});

void test('the plaintext is on no stream but the pipe', async (t) => {
  const tee = join(program, 'tee.js');
  writeFileSync(
    tee,
    `import { spawnSync } from 'node:child_process';
     import { readFileSync, writeFileSync, writeSync } from 'node:fs';
     const options = { input: readFileSync(0), stdio: ['pipe', 'pipe', 'pipe', 3] };
     const helper = ${JSON.stringify(join(program, 'helper.js'))};
     const child = spawnSync(process.execPath, [helper], options);
     writeFileSync(${JSON.stringify(`${tee}.out`)}, Buffer.concat([child.stdout, child.stderr]));
     writeSync(1, child.stdout);`,
  );
  const bench = await start(t, { execPath: process.execPath, args: [tee] });
  t.same((await bench.unwrap()).key.bytes, bench.setKey);
  const output = readFileSync(`${tee}.out`);
  for (const encoding of ['latin1', 'hex', 'base64', 'base64url'] as const) {
    t.notOk(output.includes(bench.setKey.toString(encoding), 0, 'latin1'), encoding);
  }
});

void test('no more helpers run at once than the limit, and all get their turn', async (t) => {
  const log = join(program, `turns-${process.pid}`);
  writeFileSync(log, '');
  const code = `const fs = require('fs'); fs.appendFileSync(${JSON.stringify(log)}, '+');
    setTimeout(() => { fs.appendFileSync(${JSON.stringify(log)}, '-'); process.exit(1) }, 300)`;
  const bench = await start(t, scripted(code));
  await Promise.all(Array.from({ length: HELPERS_MAX * 2 + 1 }, () => bench.refusal()));
  let running = 0;
  let most = 0;
  for (const sign of readFileSync(log, 'utf8')) {
    running += sign === '+' ? 1 : -1;
    most = Math.max(most, running);
  }
  t.equal(running, 0);
  t.ok(most <= HELPERS_MAX, `${most} at once`);
});

void test('closing ends the helpers that run and those that wait', async (t) => {
  const bench = await start(t, scripted('setInterval(() => {}, 1000)'));
  const all = Array.from({ length: HELPERS_MAX + 2 }, () => bench.refusal());
  await new Promise((resolve) => setTimeout(resolve, 200));
  bench.access.close();
  const codes = (await Promise.all(all)).map(({ verdict }) => verdict.code);
  t.strictSame(new Set(codes), new Set(['HelperEnded', 'ERR_VAULT_CLOSED']));
  t.equal(bench.pipe.leaked, 0);
});

void test('an unknown identity never starts a helper', async (t) => {
  const bench = await start(t);
  const access = bench.rig.access({ identities: {}, secretPipe: bench.pipe });
  const request = { identity: 'x', kid: bench.rig.vault.kid, wrapped: new Uint8Array(256) };
  await t.rejects(access.unwrapSetKey({ ...request, timeoutMs: 1000 }), {
    code: 'ERR_KEY_UNWRAP_NO_ANSWER',
    fields: { verdict: { class: 'ambiguous', code: 'ERR_VAULT_IDENTITY' } },
  });
});

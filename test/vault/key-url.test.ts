// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { isSameKey, parseKeyUrl, parseKid } from '../../src/vault/key-url.js';

void test('a key URL is taken apart, with port and version', (t) => {
  t.strictSame(parseKeyUrl('https://127.0.0.1:8443/keys/my-key/0a1b/'), {
    vaultUrl: 'https://127.0.0.1:8443',
    name: 'my-key',
    version: '0a1b',
    id: 'https://127.0.0.1:8443/keys/my-key/0a1b',
  });
  t.equal(parseKeyUrl('https://v.vault.azure.net/keys/k').version, undefined);
  t.end();
});

for (const [url, problem] of [
  ['', /not a URL/],
  ['v.vault.azure.net/keys/k', /not a URL/],
  ['http://v.vault.azure.net/keys/k', /protocol is http/],
  ['https://user:pw@v.vault.azure.net/keys/k', /user name/],
  ['https://v.vault.azure.net/keys/k?x=1', /query/],
  ['https://v.vault.azure.net/keys/k#x', /fragment/],
  ['https://v.vault.azure.net/secrets/k', /path begins with "secrets"/],
  ['https://v.vault.azure.net/keys', /name is missing/],
  ['https://v.vault.azure.net/keys//1', /name is missing/],
  ['https://v.vault.azure.net/keys/a%2Fb', /name is missing or malformed/],
  ['https://v.vault.azure.net/keys/k/..%2f', /version is malformed/],
  ['https://v.vault.azure.net/keys/k/1/2', /too many/],
] as const) {
  void test(`no key URL: ${url}`, (t) => {
    t.throws(() => parseKeyUrl(url), { code: 'ERR_KEY_URL', message: problem });
    t.end();
  });
}

void test('a password in a URL is not repeated', (t) => {
  const message = /^((?!hunter2).)*$/;
  t.throws(() => parseKeyUrl('https://u:hunter2@v/keys/k'), { message });
  t.throws(() => parseKeyUrl('http://u:hunter2@v/keys/k'), { message });
  t.end();
});

void test('a kid must name its version', (t) => {
  t.throws(() => parseKid('https://v.vault.azure.net/keys/k'), { code: 'ERR_KEY_URL' });
  t.end();
});

void test('an answered kid matches by name and version, without case or host', (t) => {
  const asked = { name: 'K1', version: 'AB' };
  t.equal(isSameKey('https://other-name/keys/k1/ab', asked), true);
  t.equal(isSameKey('https://v/keys/k1/ac', asked), false);
  t.equal(isSameKey('https://v/keys/k2/ab', asked), false);
  t.equal(isSameKey('https://v/keys/k1', asked), false);
  t.equal(isSameKey('https://v/secrets/k1/ab', asked), false);
  t.equal(isSameKey('nonsense', asked), false);
  t.equal(isSameKey(undefined, asked), false);
  t.end();
});

// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { compareConfigs, type ConfigChanges } from '../../src/config/changes.js';
import { parseConfig } from '../../src/config/config.js';

function compare(before: string, after: string): ConfigChanges {
  return compareConfigs(parseConfig(before, '/c'), parseConfig(after, '/c'));
}

const CERTIFICATE = '[nbd.certificate]\ncert_file = "/a"\nkey_file = "/b"\n';

const cases: ReadonlyArray<readonly [string, string, string, ConfigChanges]> = [
  ['the same text', 'state_dir = "/s"', 'state_dir = "/s"', { live: [], restart: [] }],
  [
    'a default that is written down',
    '',
    'state_dir = "/var/lib/keyhold"\n[vault]\ntimeout = "5s"\nproxy = ""\n[nbd]\ntls = "off"',
    { live: [], restart: [] },
  ],
  [
    'another identity',
    '[identity.a]\nkind = "azure-cli"',
    '[identity.b]\nkind = "azure-cli"',
    { live: ['identity'], restart: [] },
  ],
  ['a proxy', '', '[vault]\nproxy = "http://p:1"', { live: ['vault.proxy'], restart: [] }],
  [
    'live and other keys at once',
    '',
    'state_dir = "/s"\n[vault]\nca_file = "/ca"\ntimeout = "1s"',
    { live: ['vault.ca_file'], restart: ['state_dir', 'vault.timeout'] },
  ],
  [
    'another listener',
    '[nbd]\nlisten = ["127.0.0.1:1"]',
    '[nbd]\nlisten = ["127.0.0.1:2"]',
    { live: [], restart: ['nbd.listen'] },
  ],
  [
    'another certificate',
    CERTIFICATE,
    CERTIFICATE.replace('/a', '/c'),
    { live: ['nbd.certificate'], restart: [] },
  ],
  ['the first certificate', '', CERTIFICATE, { live: [], restart: ['nbd.certificate'] }],
  ['the last certificate', CERTIFICATE, '', { live: [], restart: ['nbd.certificate'] }],
  [
    'pre-shared keys beside a certificate',
    CERTIFICATE,
    `${CERTIFICATE}[nbd.psk]\nfile = "/p"`,
    { live: ['nbd.psk'], restart: [] },
  ],
  [
    'another way to the platform key',
    '[platform_key]\nfile = "/k"',
    '[platform_key]\ncredential = "k"',
    { live: [], restart: ['platform_key.file', 'platform_key.credential'] },
  ],
];
for (const [what, before, after, expected] of cases) {
  void test(`what changes: ${what}`, (t) => {
    t.same(compare(before, after), expected);
    t.end();
  });
}

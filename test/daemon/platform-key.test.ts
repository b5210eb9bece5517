// SPDX-License-Identifier: Apache-2.0
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'tap';
import type { PlatformKeyConfig } from '../../src/config/config.js';
import { openPlatformKey } from '../../src/daemon/platform-key.js';
import { loadAddon } from '../../src/dataplane/load.js';
import { createPlatformKeyFile, type PlatformKey } from '../../src/dataplane/platform-key.js';
import { collectingLogger, type LogLine } from '../dataplane/lines.js';

const addon = loadAddon();

function opened(
  config: PlatformKeyConfig | null,
  credentialsDirectory?: string,
  lines: LogLine[] = [],
): PlatformKey | undefined {
  const logger = collectingLogger(lines);
  return openPlatformKey(config, { addon, credentialsDirectory, logger });
}

void test('a config without a platform key gives none', (t) => {
  t.equal(opened(null), undefined);
  t.end();
});

void test('a file is read, and the log names its id', (t) => {
  const path = join(t.testdir(), 'platform.key');
  const { id } = createPlatformKeyFile(addon, path);
  const lines: LogLine[] = [];
  t.equal(opened({ kind: 'file', path }, undefined, lines)?.id, id);
  t.ok(JSON.stringify(lines).includes(id));
  t.end();
});

void test('a credential is found in the directory of the service manager', async (t) => {
  const dir = t.testdir();
  const { id } = createPlatformKeyFile(addon, join(dir, 'platform'));
  await chmod(join(dir, 'platform'), 0o440);
  t.equal(opened({ kind: 'credential', name: 'platform' }, dir)?.id, id);
});

void test('a credential without a service manager is refused', (t) => {
  t.throws(() => opened({ kind: 'credential', name: 'platform' }), {
    code: 'ERR_PLATFORM_KEY_FILE',
    message: /CREDENTIALS_DIRECTORY/,
  });
  t.end();
});

void test('a credential that is not there is refused with its path', (t) => {
  const dir = t.testdir();
  t.throws(() => opened({ kind: 'credential', name: 'platform' }, dir), {
    code: 'ERR_PLATFORM_KEY_FILE',
    fields: { errno: 'ENOENT' },
  });
  t.end();
});

void test('a file that others may read is refused', async (t) => {
  const path = join(t.testdir(), 'platform.key');
  createPlatformKeyFile(addon, path);
  await chmod(path, 0o604);
  t.throws(() => opened({ kind: 'file', path }), { code: 'ERR_PLATFORM_KEY_FILE' });
});

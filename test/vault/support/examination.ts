// SPDX-License-Identifier: Apache-2.0
import { constants, createPublicKey, publicEncrypt, randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Check } from '../../../src/base/check.js';
import { createSystemRandom } from '../../../src/base/random.js';
import { makeCanary } from '../../../src/sets/wrap.js';
import { examineKey } from '../../../src/vault/doctor.js';
import type { IdentityConfig } from '../../../src/vault/identity-config.js';
import { parseKeyUrl } from '../../../src/vault/key-url.js';
import type { VaultTransport } from '../../../src/vault/transport.js';
import type { Canary } from '../../../src/vault/types.js';
import { type Fixture, startVault } from '../../devvault/support.js';
import { TestClock } from './rig.js';

interface Options {
  readonly key?: string;
  readonly identity?: Partial<Extract<IdentityConfig, { kind: 'embedded-vault' }>>;
  readonly identityName?: string;
  readonly transport?: Partial<VaultTransport>;
  readonly allowPurgeable?: boolean;
  readonly expiryDenies?: boolean;
  readonly skewMs?: number;
  readonly canaries?: ReadonlyArray<{ kid: string; canary: Canary }>;
}

/** The embedded vault over real HTTPS, with a key `k1`, and the real SDK in front of it. */
export class Examination {
  readonly fixture: Fixture;
  readonly kid: string;

  private constructor(fixture: Fixture, kid: string) {
    this.fixture = fixture;
    this.kid = kid;
  }

  static async start(t: Test): Promise<Examination> {
    const fixture = await startVault(t);
    await fixture.control.settings({ recoveryLevel: 'Recoverable' });
    const { kid } = await fixture.control.createKey({ name: 'k1' });
    return new Examination(fixture, kid);
  }

  /** What stands for a set's canary, under the newest version of the key. */
  async canary(): Promise<{ kid: string; canary: Canary }> {
    const { stateDir } = this.fixture;
    const state = JSON.parse(await readFile(join(stateDir, 'state.json'), 'utf8')) as {
      keys: { k1: { versions: { version: string; privateKeyPem: string }[] } };
    };
    const newest = state.keys.k1.versions.at(-1);
    if (newest === undefined) throw new Error('k1 has no version');
    const plaintext = new Uint8Array(randomBytes(32));
    const key = {
      key: createPublicKey(newest.privateKeyPem),
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: 'sha256',
    };
    const wrapped = new Uint8Array(publicEncrypt(key, plaintext));
    const kid = `${this.fixture.vault.url}/keys/k1/${newest.version}`;
    return { kid, canary: { plaintext, wrapped } };
  }

  async run(options: Options = {}): Promise<Record<string, Check>> {
    const { vault } = this.fixture;
    const clock = new TestClock();
    clock.skewMs = options.skewMs ?? 0;
    const random = createSystemRandom();
    const identity: IdentityConfig = {
      kind: 'embedded-vault',
      client_id: vault.clientId,
      tenant_id: vault.tenantId,
      secret_file: vault.clientSecretPath,
      authority_host: vault.url,
      ...options.identity,
    };
    const checks = await examineKey(
      {
        identity: options.identityName ?? 'prod',
        url: parseKeyUrl(options.key ?? `${vault.url}/keys/k1`),
        allowPurgeable: options.allowPurgeable ?? false,
        expiryDenies: options.expiryDenies ?? false,
        canaries: options.canaries ?? [],
      },
      {
        identities: { prod: identity },
        credentialsDirectory: undefined,
        transport: {
          caFile: vault.caPath,
          verifyChallengeResource: true,
          timeoutMs: 2000,
          ...options.transport,
        },
        clock,
        makeCanary: (key) => makeCanary(key, random),
      },
    );
    return Object.fromEntries(checks.map((check) => [check.id, check]));
  }

  /** A secret file with something else in it. */
  async wrongSecret(): Promise<string> {
    const path = join(this.fixture.stateDir, 'wrong-secret');
    await writeFile(path, 'not the secret\n', { mode: 0o600 });
    return path;
  }
}

export function verdicts(checks: Record<string, Check>): Record<string, string> {
  return Object.fromEntries(Object.entries(checks).map(([id, check]) => [id, check.verdict]));
}

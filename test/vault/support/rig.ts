// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../../src/base/clock.js';
import { createSilentLogger } from '../../../src/base/logger.js';
import {
  type ClosableVaultAccess,
  createVaultAccess,
  type VaultAccessOptions,
} from '../../../src/vault/access.js';
import type { IdentityConfig } from '../../../src/vault/identity-config.js';
import type { VaultTransport } from '../../../src/vault/transport.js';
import type { Canary, SecretPipe, Verdict } from '../../../src/vault/types.js';
import { type Certificates, makeCertificates } from './certificates.js';
import { CLIENT_ID, FakeVault, SECRET, TENANT } from './fake-vault.js';

/** Real time with timers that keep the test alive; `skewMs` moves both clocks. */
export class TestClock implements Clock {
  skewMs = 0;

  nowMs(): number {
    return Date.now() + this.skewMs;
  }

  bootMs(): number {
    return performance.now() + this.skewMs;
  }

  setTimer(delayMs: number, fire: () => void): { cancel(): void } {
    const timeout = setTimeout(fire, delayMs);
    return { cancel: () => clearTimeout(timeout) };
  }
}

const noPipe: SecretPipe = {
  createPipe: () => {
    throw new Error('this test has no secret pipe');
  },
  closeFd: () => undefined,
  receiveSetKey: () => Promise.reject(new Error('this test has no secret pipe')),
};

let shared: Certificates | undefined;

/** Made once for all tests of a file; removed when its process ends. */
function sharedCertificates(): Certificates {
  if (shared !== undefined) return shared;
  const directory = mkdtempSync(join(tmpdir(), 'keyhold-vault-ca-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  shared = makeCertificates(directory);
  return shared;
}

/** A fake vault, an identity for it, and accesses that are closed with the test. */
export class Rig {
  readonly directory: string;
  readonly certificates: Certificates;
  readonly vault: FakeVault;
  readonly clock = new TestClock();
  readonly canary: Canary;
  readonly #accesses: ClosableVaultAccess[] = [];

  private constructor(directory: string, certificates: Certificates, vault: FakeVault) {
    this.directory = directory;
    this.certificates = certificates;
    this.vault = vault;
    const plaintext = new Uint8Array(randomBytes(32));
    this.canary = { plaintext, wrapped: vault.wrap(plaintext) };
    writeFileSync(join(directory, 'secret'), `${SECRET}\n`);
  }

  static async start(): Promise<Rig> {
    const directory = mkdtempSync(join(tmpdir(), 'keyhold-vault-'));
    const certificates = sharedCertificates();
    return new Rig(directory, certificates, await FakeVault.start(certificates));
  }

  get identity(): Extract<IdentityConfig, { kind: 'embedded-vault' }> {
    return {
      kind: 'embedded-vault',
      client_id: CLIENT_ID,
      tenant_id: TENANT,
      secret_file: join(this.directory, 'secret'),
      authority_host: this.vault.origin,
    };
  }

  transport(overrides: Partial<VaultTransport> = {}): VaultTransport {
    const caFile = this.certificates.caFile;
    return { caFile, verifyChallengeResource: false, timeoutMs: 2000, ...overrides };
  }

  access(
    overrides: Partial<Omit<VaultAccessOptions, 'transport'>> & {
      transport?: Partial<VaultTransport>;
    } = {},
  ): ClosableVaultAccess {
    const { transport, ...rest } = overrides;
    return this.accessWith(this.transport(transport), rest);
  }

  accessWith(
    transport: VaultTransport,
    overrides: Partial<Omit<VaultAccessOptions, 'transport'>> = {},
  ): ClosableVaultAccess {
    const access = createVaultAccess({
      identities: { prod: this.identity },
      clock: this.clock,
      logger: createSilentLogger(),
      secretPipe: noPipe,
      helperCommand: { execPath: '/nonexistent/node', args: [] },
      ...overrides,
      transport,
    });
    this.#accesses.push(access);
    return access;
  }

  probe(
    access: ClosableVaultAccess,
    overrides: { canary?: Canary; fresh?: boolean; timeoutMs?: number; kid?: string } = {},
  ): Promise<Verdict> {
    const { kid, canary } = { kid: this.vault.kid, canary: this.canary };
    return access.probe({
      identity: 'prod',
      kid,
      canary,
      fresh: false,
      timeoutMs: 2000,
      ...overrides,
    });
  }

  async stop(): Promise<void> {
    for (const access of this.#accesses) access.close();
    await this.vault.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

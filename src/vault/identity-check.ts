// SPDX-License-Identifier: Apache-2.0
import { access, constants, stat } from 'node:fs/promises';
import { type Check, type Fact, failed, passed, warned } from '../base/check.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import { createCredential, type ResolvedIdentity, resolveIdentity } from './credential.js';
import { codes } from './errors.js';
import type { IdentityConfig } from './identity-config.js';
import type { VaultTransport } from './transport.js';

interface Config {
  readonly identities: Readonly<Record<string, IdentityConfig>>;
  readonly credentialsDirectory: string | undefined;
  readonly transport: VaultTransport;
}

/** Whether an identity can be used as it is configured; no authority is asked. */
export async function checkIdentity(
  name: string,
  config: Config,
): Promise<{ checks: Check[]; resolved: ResolvedIdentity | undefined }> {
  const known = Object.keys(config.identities);
  const identity = Object.hasOwn(config.identities, name) ? config.identities[name] : undefined;
  if (identity === undefined) {
    const message = `the configuration has no identity ${JSON.stringify(name)}: it has ${
      known.join(', ') || 'none'
    }`;
    const problem = { code: codes.ERR_VAULT_IDENTITY, kind: 'invalid', message } as const;
    return { checks: [failed('identity', problem, { name, known })], resolved: undefined };
  }
  const facts: Record<string, Fact> = { name, identityKind: identity.kind, ...settings(identity) };
  try {
    const resolved = resolveIdentity(identity, config.credentialsDirectory);
    const file = secretFileOf(resolved);
    if (file !== undefined) await access(file, constants.R_OK);
    // Reads the secret and the CA file; nothing is sent.
    await createCredential(resolved, config.transport);
    if (file === undefined) {
      return { checks: [passed('identity', `${name}: ${identity.kind}`, facts)], resolved };
    }
    const check = await checkSecretFile({ name, file, facts });
    return { checks: [check], resolved };
  } catch (error) {
    const isOurs = error instanceof KeyholdError;
    const code = isOurs ? error.code : codes.ERR_IDENTITY_SECRET;
    const message = isOurs ? error.message : `identity ${name}: ${messageOf(error)}`;
    const problem = { code, kind: 'invalid', message } as const;
    return { checks: [failed('identity', problem, facts)], resolved: undefined };
  }
}

async function checkSecretFile(about: {
  name: string;
  file: string;
  facts: Record<string, Fact>;
}): Promise<Check> {
  const { name, file, facts } = about;
  const mode = (await stat(file)).mode & 0o777;
  const text = `0${mode.toString(8)}`;
  const all = { ...facts, secretFile: file, mode: text };
  // A projected service-account token (Kubernetes) is 0644 in a directory of its own.
  if (facts['identityKind'] === 'workload-identity' || (mode & 0o007) === 0) {
    return passed('identity', `${name}: ${String(facts['identityKind'])}`, all);
  }
  const message = `${file} has mode ${text}, expected nothing for others`;
  return warned('identity', 'SecretReadable', message, all);
}

function settings(identity: IdentityConfig): Record<string, string> {
  const { client_id: clientId, tenant_id: tenantId } = identity as {
    client_id?: string | undefined;
    tenant_id?: string | undefined;
  };
  return {
    ...(clientId === undefined ? {} : { clientId }),
    ...(tenantId === undefined ? {} : { tenantId }),
    ...('authority_host' in identity ? { authority: identity.authority_host } : {}),
  };
}

function secretFileOf(identity: ResolvedIdentity): string | undefined {
  switch (identity.kind) {
    case 'embedded-vault':
    case 'client-secret':
      return identity.secret_file;
    case 'client-certificate':
      return identity.certificate_file;
    case 'workload-identity':
      return identity.token_file;
    case 'managed-identity':
    case 'azure-cli':
      return undefined;
  }
}

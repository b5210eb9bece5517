// SPDX-License-Identifier: Apache-2.0
import type { TokenCredential } from '@azure/identity';
import { open } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { join } from 'node:path';
import { assertNever, KeyholdError, messageOf } from '../base/errors.js';
import { codes } from './errors.js';
import type { IdentityConfig } from './identity-config.js';
import { createOauthCredential } from './oauth-credential.js';
import { createAgent, readCa, type VaultTransport } from './transport.js';

type ClientSecretConfig = Extract<IdentityConfig, { kind: 'client-secret' }>;

/** An identity whose secrets are all named by path: what the unwrap helper can be handed. */
export type ResolvedIdentity =
  | Exclude<IdentityConfig, ClientSecretConfig>
  | (Omit<ClientSecretConfig, 'credential' | 'secret_file'> & { secret_file: string });

type Entra = Extract<ResolvedIdentity, { disable_instance_discovery: boolean }>;

/** A client secret is a short line; more is the wrong file. */
const SECRET_BYTES_MAX = 4096;

/** Turns a systemd credential's name into its path. `credentialsDirectory` is what systemd set. */
export function resolveIdentity(
  config: IdentityConfig,
  credentialsDirectory: string | undefined,
): ResolvedIdentity {
  if (config.kind !== 'client-secret') return config;
  const { credential, secret_file: secretFile, ...rest } = config;
  if (secretFile !== undefined) return { ...rest, secret_file: secretFile };
  if (credentialsDirectory === undefined || credential === undefined) {
    throw new KeyholdError(
      codes.ERR_IDENTITY_SECRET,
      `cannot find systemd credential ${credential ?? ''}: the service was started without any`,
      { fields: { credential } },
    );
  }
  return { ...rest, secret_file: join(credentialsDirectory, credential) };
}

/**
 * Builds the credential that the configuration names, and no other. Called anew for every token:
 * an old object refuses for a minute after a token endpoint's 429 or 5xx and holds on to a secret
 * that has been replaced. @azure/identity is loaded only for the kinds that need it.
 */
export async function createCredential(
  identity: ResolvedIdentity,
  transport: VaultTransport,
): Promise<TokenCredential> {
  switch (identity.kind) {
    case 'embedded-vault':
      return createOauthCredential({
        authorityHost: identity.authority_host,
        tenantId: identity.tenant_id,
        clientId: identity.client_id,
        clientSecret: await readSecret(identity.secret_file),
        ca: await readCa(transport.caFile),
        proxy: transport.proxy,
        timeoutMs: transport.timeoutMs,
      });
    case 'managed-identity': {
      const { ManagedIdentityCredential } = await import('@azure/identity');
      return new ManagedIdentityCredential({
        // One retry policy for all: the process shares the first one that any object brings.
        retryOptions: { maxRetries: 0 },
        // IMDS is plain HTTP on a link-local address and must not go through a proxy.
        agent: new HttpAgent(),
        ...(identity.client_id === undefined ? {} : { clientId: identity.client_id }),
      });
    }
    case 'azure-cli': {
      const { AzureCliCredential } = await import('@azure/identity');
      return new AzureCliCredential({
        processTimeoutInMs: transport.timeoutMs,
        ...(identity.tenant_id === undefined ? {} : { tenantId: identity.tenant_id }),
      });
    }
    case 'workload-identity':
    case 'client-secret':
    case 'client-certificate':
      return createEntraCredential(identity, transport);
    default:
      return assertNever(identity, 'identity kind');
  }
}

async function createEntraCredential(
  identity: Entra,
  transport: VaultTransport,
): Promise<TokenCredential> {
  const azure = await import('@azure/identity');
  const { client_id: clientId, tenant_id: tenantId } = identity;
  const options = {
    authorityHost: identity.authority_host,
    disableInstanceDiscovery: identity.disable_instance_discovery,
    additionallyAllowedTenants: identity.additionally_allowed_tenants,
    retryOptions: { maxRetries: 0 },
    agent: createAgent({
      ca: await authorityCa(identity, transport),
      proxy: transport.proxy,
      timeoutMs: transport.timeoutMs,
      keepAlive: false,
    }),
  };
  switch (identity.kind) {
    case 'client-secret': {
      const secret = await readSecret(identity.secret_file);
      return new azure.ClientSecretCredential(tenantId, clientId, secret, options);
    }
    case 'client-certificate': {
      const certificatePath = identity.certificate_file;
      return new azure.ClientCertificateCredential(
        tenantId,
        clientId,
        { certificatePath },
        options,
      );
    }
    case 'workload-identity':
      return new azure.WorkloadIdentityCredential({
        ...options,
        clientId,
        tenantId,
        tokenFilePath: identity.token_file,
      });
    default:
      return assertNever(identity, 'identity kind');
  }
}

/** A private CA vouches for private authorities; the public ones keep the system's roots. */
async function authorityCa(
  identity: Entra,
  transport: VaultTransport,
): Promise<string | undefined> {
  return identity.disable_instance_discovery ? readCa(transport.caFile) : undefined;
}

async function readSecret(path: string): Promise<string> {
  try {
    const file = await open(path, 'r');
    try {
      const buffer = Buffer.alloc(SECRET_BYTES_MAX + 1);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      const secret = buffer.toString('utf8', 0, bytesRead).trim();
      if (bytesRead > SECRET_BYTES_MAX || secret === '' || secret.includes('\n')) {
        throw new Error(`expected one non-empty line of at most ${SECRET_BYTES_MAX} bytes`);
      }
      return secret;
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_IDENTITY_SECRET,
      `cannot read secret file ${JSON.stringify(path)}: ${messageOf(error)}`,
      { fields: { path } },
    );
  }
}

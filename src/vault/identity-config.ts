// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';

const httpsUrl = z.url({ protocol: /^https$/ });
const path = z.string().min(1);
const id = z.string().min(1).max(128);

/** Where tokens come from; for sovereign clouds and Azure Stack. */
const authority = {
  authority_host: httpsUrl.default('https://login.microsoftonline.com'),
  /** Azure Stack and other authorities that the public metadata does not know. */
  disable_instance_discovery: z.boolean().default(false),
  /** Tenants besides `tenant_id` that a vault's challenge may name; `*` for any. */
  additionally_allowed_tenants: z.array(id).default([]),
};

/** A systemd credential's name is one path component below $CREDENTIALS_DIRECTORY. */
const systemdCredential = z
  .string()
  .regex(/^(?!\.{1,2}$)[\w.@-]{1,255}$/, 'must be the name of a systemd credential');

const clientSecret = z
  .strictObject({
    kind: z.literal('client-secret'),
    client_id: id,
    tenant_id: id,
    secret_file: path.optional(),
    credential: systemdCredential.optional(),
    ...authority,
  })
  .refine(
    (value) => (value.secret_file === undefined) !== (value.credential === undefined),
    'needs exactly one of secret_file and credential',
  );

/**
 * One `[identity.NAME]` of the configuration. Nothing is guessed from the environment: the kind
 * names the credential class, and secrets are named by file, never written here.
 */
export const identityConfigSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('managed-identity'), client_id: id.optional() }),
  z.strictObject({
    kind: z.literal('workload-identity'),
    client_id: id,
    tenant_id: id,
    token_file: path,
    ...authority,
  }),
  clientSecret,
  z.strictObject({
    kind: z.literal('client-certificate'),
    client_id: id,
    tenant_id: id,
    certificate_file: path,
    ...authority,
  }),
  z.strictObject({ kind: z.literal('azure-cli'), tenant_id: id.optional() }),
  z.strictObject({
    kind: z.literal('embedded-vault'),
    client_id: id,
    tenant_id: id,
    secret_file: path,
    authority_host: httpsUrl,
  }),
]);

export type IdentityConfig = z.infer<typeof identityConfigSchema>;
export type IdentityConfigInput = z.input<typeof identityConfigSchema>;

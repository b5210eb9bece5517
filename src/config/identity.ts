// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { absolutePath } from './paths.js';

const id = z.string().min(1).max(255);
const httpsUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && new URL(text).protocol === 'https:',
    'expected an https:// URL',
  );

/** Sovereign clouds and Azure Stack have an authority of their own. */
const authority = {
  authority_host: z.exactOptional(httpsUrl),
  disable_instance_discovery: z.exactOptional(z.boolean()),
};

/**
 * `[identity.NAME]` of the config: how to reach a vault, chosen in so many words; nothing is guessed
 * from the environment. Secrets stand in files (or systemd credentials), never in the config.
 */
export const identitySchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('managed-identity'), client_id: z.exactOptional(id) }),
  z.strictObject({
    kind: z.literal('workload-identity'),
    client_id: id,
    tenant_id: id,
    token_file: absolutePath,
    ...authority,
  }),
  z.strictObject({
    kind: z.literal('client-secret'),
    client_id: id,
    tenant_id: id,
    secret_file: absolutePath,
    ...authority,
  }),
  z.strictObject({
    kind: z.literal('client-certificate'),
    client_id: id,
    tenant_id: id,
    /** PEM with certificate and private key. */
    certificate_file: absolutePath,
    ...authority,
  }),
  z.strictObject({ kind: z.literal('azure-cli'), tenant_id: z.exactOptional(id) }),
]);

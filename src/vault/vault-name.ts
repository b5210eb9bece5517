// SPDX-License-Identifier: Apache-2.0

/** The domains of Azure's clouds; what stands before one of them is the vault's name. */
const DOMAINS = [
  'vault.azure.net',
  'vault.azure.cn',
  'vault.usgovcloudapi.net',
  'vault.microsoftazure.de',
  'managedhsm.azure.net',
  'managedhsm.azure.cn',
  'managedhsm.usgovcloudapi.net',
] as const;

export interface VaultName {
  /** As `az keyvault --name` takes it; the whole host for a vault outside Azure's domains. */
  readonly name: string;
  readonly managedHsm: boolean;
  /** What its tokens are for; undefined outside Azure's domains, where only the vault knows. */
  readonly resource: string | undefined;
}

export function vaultNameOf(vaultUrl: string): VaultName {
  const { hostname } = new URL(vaultUrl);
  const domain = DOMAINS.find((each) => hostname.endsWith(`.${each}`));
  if (domain === undefined) return { name: hostname, managedHsm: false, resource: undefined };
  return {
    name: hostname.slice(0, -domain.length - 1),
    managedHsm: domain.startsWith('managedhsm'),
    resource: `https://${domain}`,
  };
}

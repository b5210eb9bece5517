// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_KEY_URL: {
    kind: 'invalid',
    summary: 'The URL of a customer key could not be read.',
    hint: 'write https://VAULT/keys/NAME or https://VAULT/keys/NAME/VERSION, as the portal shows it',
  },
  ERR_KEY_TYPE: {
    kind: 'invalid',
    summary: 'The key is no RSA key.',
    hint: 'create a key of type RSA or RSA-HSM; EC and symmetric keys cannot wrap a set key',
  },
  ERR_KEY_SIZE: {
    kind: 'invalid',
    summary: 'The RSA key has a size that is not served.',
    hint: 'create an RSA key of 2048, 3072 or 4096 bits',
  },
  ERR_KEY_MATERIAL: {
    kind: 'integrity',
    summary: 'The vault described a key whose public half is unusable, or another key.',
    hint: 'check that the URL leads to a Key Vault and to the key that you mean',
  },
  ERR_KEY_OPERATIONS: {
    kind: 'invalid',
    summary: 'The key does not permit wrapKey and unwrapKey.',
    hint: 'add wrapKey and unwrapKey to the permitted operations of the key version',
  },
  ERR_KEY_DISABLED: {
    kind: 'key-inaccessible',
    summary: 'The key version is disabled.',
    hint: 'enable the key version in the vault, or name another version',
  },
  ERR_KEY_PURGEABLE: {
    kind: 'invalid',
    summary: 'The vault has no purge protection, so that the key could be lost for good at once.',
    hint: 'enable soft delete and purge protection on the vault, or pass --allow-purgeable',
  },
  ERR_KEY_NOT_FOUND: {
    kind: 'not-found',
    summary: 'The vault has no such key or version; it may be deleted.',
    hint: 'check name and version; a soft-deleted key can be recovered in the vault',
  },
  ERR_KEY_ACCESS: {
    kind: 'key-inaccessible',
    summary: 'The vault refuses the identity the key.',
    hint: 'give the identity get, wrapKey and unwrapKey on the key (role "Key Vault Crypto Service Encryption User"); a new grant takes up to ten minutes',
  },
  ERR_KEY_NETWORK: {
    kind: 'key-inaccessible',
    summary: "The vault's firewall or private link refuses this host's address.",
    hint: "add this host's address or network to the vault's firewall, or use its private endpoint",
  },
  ERR_KEY_IDENTITY: {
    kind: 'key-inaccessible',
    summary: 'The identity provider refuses the identity: gone, disabled, or its secret is bad.',
    hint: 'check client id, tenant and secret of the identity; a secret may have expired',
  },
  ERR_KEY_NO_ANSWER: {
    kind: 'unavailable',
    summary: 'The vault or the identity provider gave no usable answer.',
    hint: 'check name, DNS, proxy, ca_file and verify_challenge_resource of [vault], then try again',
  },
  ERR_KEY_UNWRAP_DENIED: {
    kind: 'key-inaccessible',
    summary: 'The vault refused to unwrap a set key.',
    hint: 'the verdict names the cause; enable the key or restore the access to heal the set',
  },
  ERR_KEY_UNWRAP_NO_ANSWER: {
    kind: 'unavailable',
    summary: 'A set key could not be unwrapped, and nobody denied it.',
    hint: 'the verdict names the cause; the set tries again by itself',
  },
  ERR_VAULT_BUDGET_FULL: {
    kind: 'unavailable',
    summary: 'As many calls wait for the budget of a vault as may wait.',
    hint: 'too many keys in one vault for what is asked of it (docs/SCALE.md); try again later',
  },
  ERR_VAULT_BUDGET_WAIT: {
    kind: 'unavailable',
    summary: 'A call waited as long for the budget of a vault as it may.',
    hint: 'keyhold_vault_throttled_total tells whether the vault throttles; see docs/SCALE.md',
  },
  ERR_VAULT_IDENTITY: {
    kind: 'invalid',
    summary: 'A vault was to be reached with an identity that the configuration does not have.',
    hint: 'add an [identity.NAME] section to the configuration, or name one that it has',
  },
  ERR_IDENTITY_SECRET: {
    kind: 'invalid',
    summary: "An identity's secret could not be read from its file or systemd credential.",
    hint: 'the file must exist, be readable for the daemon, and hold one non-empty line',
  },
  ERR_IDENTITY_TENANT: {
    kind: 'invalid',
    summary: "The vault's challenge names another tenant than the identity's.",
    hint: 'set tenant_id to the tenant of the vault, or list it in additionally_allowed_tenants',
  },
  ERR_VAULT_CA_FILE: {
    kind: 'invalid',
    summary: 'The file of certificate authorities could not be read.',
    hint: 'ca_file of [vault] must name a readable PEM file',
  },
  ERR_VAULT_CLOSED: {
    kind: 'unavailable',
    summary: 'The vault access was asked for something while the daemon stops.',
    hint: 'start the daemon again',
  },
});

// SPDX-License-Identifier: Apache-2.0
import { describePublicKey } from './key-crypto.js';
import type { NamedVersion } from './key-ring.js';
import type { StoredKey, StoredKeyVersion, VaultState } from './state.js';

/** Versioned key id. */
export function kidOf(baseUrl: string, { name, version }: NamedVersion): string {
  return `${baseUrl}/keys/${name}/${version.version}`;
}

/** KeyBundle of the REST API. Dates that are not set are absent. */
export function keyBundle(baseUrl: string, state: VaultState, key: NamedVersion): object {
  const { version } = key;
  const { jwk } = describePublicKey(version.privateKeyPem);
  return {
    key: {
      kid: kidOf(baseUrl, key),
      kty: version.kty,
      key_ops: version.keyOps,
      ...jwk,
    },
    attributes: attributes(state, version),
    tags: version.tags,
  };
}

/** KeyItem of the lists. A list of keys names the key, a list of versions each version. */
export function keyItem(kid: string, state: VaultState, version: StoredKeyVersion): object {
  return { kid, attributes: attributes(state, version), tags: version.tags };
}

type DeletedKey = StoredKey & { deleted: NonNullable<StoredKey['deleted']> };

export function deletedKeyBundle(
  baseUrl: string,
  state: VaultState,
  name: string,
  key: DeletedKey,
): object {
  return { ...keyBundle(baseUrl, state, newest(name, key)), ...deletion(baseUrl, name, key) };
}

export function deletedKeyItem(
  baseUrl: string,
  state: VaultState,
  name: string,
  key: DeletedKey,
): object {
  const { version } = newest(name, key);
  return {
    ...keyItem(`${baseUrl}/keys/${name}`, state, version),
    ...deletion(baseUrl, name, key),
  };
}

export function rotationPolicyBody(
  baseUrl: string,
  name: string,
  policy: StoredKey['rotationPolicy'],
): object {
  return {
    id: `${baseUrl}/keys/${name}/rotationpolicy`,
    // What the service answers for a key that never had a policy.
    lifetimeActions: policy?.lifetimeActions ?? [
      { trigger: { timeBeforeExpiry: 'P30D' }, action: { type: 'Notify' } },
    ],
    attributes: policy === undefined ? {} : policyAttributes(policy),
  };
}

function policyAttributes(policy: NonNullable<StoredKey['rotationPolicy']>): object {
  const { expiryTime, created, updated } = policy;
  return { ...(expiryTime === null ? {} : { expiryTime }), created, updated };
}

function newest(name: string, key: StoredKey): NamedVersion {
  const version = key.versions.at(-1);
  if (version === undefined) throw new Error('a stored key has no version');
  return { name, version };
}

function deletion(baseUrl: string, name: string, key: DeletedKey): object {
  return { recoveryId: `${baseUrl}/deletedkeys/${name}`, ...key.deleted };
}

function attributes(state: VaultState, version: StoredKeyVersion): object {
  const { nbf, exp } = version;
  return {
    enabled: version.enabled,
    ...(nbf === undefined ? {} : { nbf }),
    ...(exp === undefined ? {} : { exp }),
    created: version.created,
    updated: version.updated,
    recoveryLevel: state.recoveryLevel,
    ...(state.recoveryLevel === 'Purgeable' ? {} : { recoverableDays: state.recoverableDays }),
    exportable: false,
    hsmPlatform: version.kty === 'RSA-HSM' ? '2' : '0',
  };
}

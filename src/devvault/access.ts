// SPDX-License-Identifier: Apache-2.0
import type { Permission } from './operations.js';
import { PERMISSIONS } from './operations.js';
import {
  deniedByFirewall,
  deniedByPolicy,
  deniedByPrivateLink,
  deniedByRbac,
  noPolicyForCaller,
  type Caller,
} from './refusals.js';
import type { VaultState } from './state.js';

/** Throws the refusal that the service would give this caller; network rules come before rights. */
export function assertAllowed(
  state: VaultState,
  request: { caller: Caller; permission: Permission; keyName: string | undefined },
): void {
  if (state.firewall === 'address') throw deniedByFirewall();
  if (state.firewall === 'private-link') throw deniedByPrivateLink();
  const { caller, permission } = request;
  const granted = Object.hasOwn(state.access.principals, caller.clientId)
    ? state.access.principals[caller.clientId]
    : undefined;
  if (granted?.includes(permission) === true) return;
  const about = { caller, vaultName: state.vaultName, region: state.region };
  if (state.access.mode === 'rbac') {
    throw deniedByRbac(permission, { ...about, resource: resourceId(state, request.keyName) });
  }
  if (granted === undefined) throw noPolicyForCaller(caller, state.vaultName, state.region);
  throw deniedByPolicy(permission, state.access.policyCode, about);
}

/** Takes permissions away; without a list, takes the principal off the policies altogether. */
export function denyPrincipal(
  draft: VaultState,
  clientId: string,
  permissions: readonly Permission[] | undefined,
): void {
  const { principals } = draft.access;
  const granted = Object.hasOwn(principals, clientId) ? principals[clientId] : undefined;
  if (permissions === undefined) {
    draft.access.principals = Object.fromEntries(
      Object.entries(principals).filter(([id]) => id !== clientId),
    );
  } else if (granted !== undefined) {
    principals[clientId] = granted.filter((each) => !permissions.includes(each));
  }
}

/** Gives permissions; without a list, gives all of them. */
export function allowPrincipal(
  draft: VaultState,
  clientId: string,
  permissions: readonly Permission[] = PERMISSIONS,
): void {
  const { principals } = draft.access;
  const granted = Object.hasOwn(principals, clientId) ? (principals[clientId] ?? []) : [];
  principals[clientId] = [...new Set([...granted, ...permissions])];
}

function resourceId(state: VaultState, keyName: string | undefined): string {
  const vault =
    '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/keyhold/providers/' +
    `microsoft.keyvault/vaults/${state.vaultName}`;
  return keyName === undefined ? vault : `${vault}/keys/${keyName}`;
}

// SPDX-License-Identifier: Apache-2.0
import type { Permission } from './operations.js';
import { RBAC_ACTIONS } from './operations.js';

/**
 * An answer of the REST API that is not a success. The wording follows answers recorded from the
 * real service (the error catalogue in docs), because clients match on it.
 */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly innerCode: string | undefined;
  /** True for a 401: the answer carries a challenge. */
  readonly isChallenge: boolean;

  constructor(answer: { status: number; code: string; innerCode?: string; message: string }) {
    super(answer.message);
    this.name = 'Refusal';
    this.status = answer.status;
    this.code = answer.code;
    this.innerCode = answer.innerCode;
    this.isChallenge = answer.status === 401;
  }

  toBody(): object {
    const inner = this.innerCode === undefined ? {} : { innererror: { code: this.innerCode } };
    return { error: { code: this.code, message: this.message, ...inner } };
  }
}

/** Who calls, in the words of the service's messages. */
export interface Caller {
  readonly clientId: string;
  readonly objectId: string;
  readonly issuer: string;
}

function describeCaller(caller: Caller): string {
  return `appid=${caller.clientId};oid=${caller.objectId};iss=${caller.issuer}`;
}

const HELP = 'For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=';

function forbidden(innerCode: string | undefined, message: string): Refusal {
  const inner = innerCode === undefined ? {} : { innerCode };
  return new Refusal({ status: 403, code: 'Forbidden', ...inner, message });
}

export function badParameter(message: string): Refusal {
  return new Refusal({ status: 400, code: 'BadParameter', message });
}

export function missingToken(): Refusal {
  return unauthorized('AKV10000: Request is missing a Bearer or PoP token.');
}

export function unauthorized(message: string): Refusal {
  return new Refusal({ status: 401, code: 'Unauthorized', message });
}

export function keyNotFound(id: string): Refusal {
  return new Refusal({
    status: 404,
    code: 'KeyNotFound',
    message:
      `A key with (name/id) ${id} was not found in this key vault. If you recently deleted ` +
      `this key you may be able to recover it using the correct recovery command. ${HELP}2125182`,
  });
}

export function deletedKeyNotFound(name: string): Refusal {
  return new Refusal({
    status: 404,
    code: 'KeyNotFound',
    message: `Deleted Key not found: ${name}`,
  });
}

export function nameIsDeleted(name: string): Refusal {
  return new Refusal({
    status: 409,
    code: 'Conflict',
    innerCode: 'ObjectIsDeletedButRecoverable',
    message:
      `Key ${name} is currently in a deleted but recoverable state, and its name cannot be ` +
      'reused; in this state, the key can only be recovered or purged.',
  });
}

export function keyDisabled(operation: string): Refusal {
  return forbidden('KeyDisabled', `Operation ${operation} is not allowed on a disabled key.`);
}

export function operationNotInKeyOps(operation: string): Refusal {
  return forbidden('KeyOperationForbidden', `Operation ${operation} is not permitted on this key.`);
}

/** No record of an inner code exists for this case, so none is given. */
export function outsideValidity(operation: string, state: 'expired' | 'not yet valid'): Refusal {
  return forbidden(undefined, `Operation ${operation} is not allowed on a key that is ${state}.`);
}

export function purgeProtected(): Refusal {
  return forbidden(
    undefined,
    'Operation "purge" is not allowed because purge protection is enabled for this vault. Key ' +
      'Vault service will automatically purge it after the retention period has passed.',
  );
}

export function noPolicyForCaller(caller: Caller, vaultName: string, region: string): Refusal {
  return forbidden(
    'AccessDenied',
    'Access denied. Caller was not found on any access policy.\r\n' +
      `Caller: ${describeCaller(caller)}\r\nVault: ${vaultName};location=${region}`,
  );
}

export function deniedByPolicy(
  permission: Permission,
  innerCode: 'AccessDenied' | 'ForbiddenByPolicy',
  about: { caller: Caller; vaultName: string; region: string },
): Refusal {
  return forbidden(
    innerCode,
    `The user, group or application '${describeCaller(about.caller)}' does not have keys ` +
      `${permission.toLowerCase()} permission on key vault ` +
      `'${about.vaultName};location=${about.region}'. ${HELP}2125287`,
  );
}

export function deniedByRbac(
  permission: Permission,
  about: { caller: Caller; vaultName: string; region: string; resource: string },
): Refusal {
  return forbidden(
    'ForbiddenByRbac',
    'Caller is not authorized to perform action on resource.\r\nIf role assignments, deny ' +
      'assignments or role definitions were changed recently, please observe propagation ' +
      'time.\r\n' +
      `Caller: ${describeCaller(about.caller)}\r\n` +
      `Action: 'Microsoft.KeyVault/vaults/${RBAC_ACTIONS[permission]}'\r\n` +
      `Resource: '${about.resource}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n` +
      `DecisionReason: null\r\nVault: ${about.vaultName};location=${about.region}\r\n`,
  );
}

export function deniedByFirewall(): Refusal {
  return forbidden(
    'ForbiddenByFirewall',
    'Client address is not authorized and caller is not a trusted service.\r\n' +
      'Client address: 127.0.0.1',
  );
}

export function deniedByPrivateLink(): Refusal {
  return forbidden(
    'ForbiddenByConnection',
    'Connection is not an approved private link and caller was ignored because bypass is not ' +
      "set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'.",
  );
}

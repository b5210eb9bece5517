// SPDX-License-Identifier: Apache-2.0
import type { CredentialFailure, Finding } from './classify.js';

/** Entra ID's numbers which say that the identity itself is gone, disabled, blocked or unproven. */
const IDENTITY_DENIED = new Set([
  '700016', // application not found in the tenant
  '7000112', // application disabled
  '7000215', // bad secret
  '7000222', // expired secret
  '700027', // bad assertion
  '700021', // assertion does not match the federated credential
  '70021', // no matching federated credential
  '90002', // tenant not found
  '53003', // blocked by Conditional Access
]);

/** Entra ID's numbers for trouble of its own: directory unavailable, budget, loop or throttle. */
const TRANSIENT = new Set(['90033', '90024', '50196']);

const TRANSIENT_OAUTH = new Set([
  'temporarily_unavailable',
  'server_error',
  'service_unavailable',
  'network_error',
  'endpoints_resolution_error', // discovery; also a deleted tenant, whose number is lost here
  'openid_config_error',
]);

/** What is left of a broken connection or an HTML answer once MSAL has turned it into text. */
const TRANSIENT_MESSAGE = new RegExp(
  [
    'E(?:CONN|TIMEDOUT|NOTFOUND|AI_AGAIN|HOSTUNREACH|NETUNREACH|PIPE)',
    'socket hang up|network[ _](?:error|unreachable|request failed)|timed out|aborted',
    'Unexpected token|Unexpected end of JSON|endpoints_resolution_error|certificate',
    'temporarily[ _]unavailable|too many requests|status code: (?:408|429|5\\d\\d)',
  ].join('|'),
  'i',
);

const IMDS_IDENTITY_GONE = /identity not found/i;

/**
 * Files that a credential reads, and config that contradicts itself. Such trouble is a mistake on
 * this host, nothing that an identity provider said, and worth an alarm.
 */
const FILE_ERRNO = /^(?:ENOENT|EACCES|EPERM|EISDIR|ENOTDIR|ELOOP|ERR_IDENTITY_|ERR_VAULT_)/;

/** The part of the classifier that looks at tokens: Entra ID, IMDS, secret files, the Azure CLI. */
export function classifyCredential(failure: CredentialFailure): Finding {
  if (failure.timedOut) return { class: 'no-answer', code: 'TOKEN-TIMEOUT' };
  const denied = failure.aadsts.find((number) => IDENTITY_DENIED.has(number));
  if (denied !== undefined) return { class: 'denied-identity', code: `AADSTS${denied}` };
  const status = failure.httpStatus;
  const code = codeFor(failure);
  if (failure.aadsts.some((number) => TRANSIENT.has(number))) return { class: 'no-answer', code };
  if (status !== undefined && (status === 408 || status === 429 || status >= 500)) {
    return { class: 'no-answer', code };
  }
  if (TRANSIENT_OAUTH.has(failure.oauthError ?? '')) return { class: 'no-answer', code };
  if (failure.aadsts.length > 0) return { class: 'ambiguous', code };
  if (IMDS_IDENTITY_GONE.test(failure.message) || isUnauthorizedClient(failure)) {
    return { class: 'denied-identity', code: failure.oauthError ?? 'IdentityNotFound' };
  }
  // IMDS says 404 while it is updated and 410 for up to 70 s afterwards.
  if (status === 404 || status === 410) return { class: 'no-answer', code };
  if (failure.errno !== undefined) {
    return { class: FILE_ERRNO.test(failure.errno) ? 'ambiguous' : 'no-answer', code };
  }
  if (TRANSIENT_MESSAGE.test(failure.message)) return { class: 'no-answer', code };
  return { class: 'ambiguous', code };
}

/** Only with 401: some authorities use the same word for a grant that is not configured. */
function isUnauthorizedClient(failure: CredentialFailure): boolean {
  return (
    failure.oauthError === 'unauthorized_client' &&
    (failure.httpStatus === undefined || failure.httpStatus === 401)
  );
}

function codeFor(failure: CredentialFailure): string {
  const [first] = failure.aadsts;
  if (first !== undefined) return `AADSTS${first}`;
  if (failure.errno !== undefined) return failure.errno;
  if (failure.oauthError !== undefined) return failure.oauthError;
  return failure.httpStatus === undefined ? 'NoToken' : `TOKEN-HTTP${failure.httpStatus}`;
}

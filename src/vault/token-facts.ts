// SPDX-License-Identifier: Apache-2.0

/** Claims that say whom a token stands for; Entra's names of them. */
const CLAIMS = { oid: 'objectId', appid: 'clientId', azp: 'clientId', tid: 'tenantId' } as const;

/**
 * Whom a token stands for, and until when. Read without checking its signature, which only the
 * vault can: good for showing, for nothing else. The token itself never leaves this function.
 */
export function describeToken(token: string): Record<string, string> {
  let claims: unknown;
  try {
    claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8'));
  } catch {
    return {};
  }
  if (typeof claims !== 'object' || claims === null) return {};
  const facts: Record<string, string> = {};
  for (const [claim, fact] of Object.entries(CLAIMS)) {
    const value = (claims as Record<string, unknown>)[claim];
    if (typeof value === 'string' && /^[\w-]{1,64}$/.test(value)) facts[fact] = value;
  }
  const expires = (claims as Record<string, unknown>)['exp'];
  if (typeof expires === 'number' && expires > 0 && expires < 1e11) {
    facts['expires'] = new Date(expires * 1000).toISOString();
  }
  return facts;
}

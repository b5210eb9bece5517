// SPDX-License-Identifier: Apache-2.0
import { KeyholdError } from '../base/errors.js';
import { codes } from './errors.js';

/** `https://vault/keys/name[/version]`, taken apart. */
export interface KeyUrl {
  /** Origin of the vault, port included, without a trailing slash. */
  readonly vaultUrl: string;
  readonly name: string;
  readonly version: string | undefined;
  /** The URL in its canonical spelling. */
  readonly id: string;
}

const FORM = 'https://VAULT/keys/NAME[/VERSION]';

const SEGMENT = /^[0-9A-Za-z-]{1,127}$/;

/** Reads a key URL as the portal shows it; https only, nothing hidden in it. */
export function parseKeyUrl(text: string): KeyUrl {
  // Whoever pastes a URL with a password must not find it in a log.
  const shown = text.slice(0, 300).replace(/\/\/[^/]*@/, '//[user]@');
  const fail = (problem: string): never => {
    throw new KeyholdError(
      codes.ERR_KEY_URL,
      `cannot read key URL ${JSON.stringify(shown)}: ${problem}, expected ${FORM}`,
      { fields: { url: shown } },
    );
  };
  if (!URL.canParse(text)) return fail('not a URL');
  const url = new URL(text);
  if (url.protocol !== 'https:') return fail(`protocol is ${url.protocol.replace(':', '')}`);
  if (url.username !== '' || url.password !== '') return fail('it carries a user name');
  if (url.search !== '' || url.hash !== '') return fail('it carries a query or fragment');
  const [collection, name, version, ...rest] = url.pathname.replace(/\/$/, '').slice(1).split('/');
  if (collection !== 'keys') return fail(`path begins with ${JSON.stringify(collection)}`);
  if (name === undefined || !SEGMENT.test(name)) return fail('key name is missing or malformed');
  if (version !== undefined && !SEGMENT.test(version)) return fail('key version is malformed');
  if (rest.length > 0) return fail('path has too many segments');
  const id = `${url.origin}/keys/${name}${version === undefined ? '' : `/${version}`}`;
  return { vaultUrl: url.origin, name, version, id };
}

/** As parseKeyUrl, for the id of one version. */
export function parseKid(text: string): KeyUrl & { readonly version: string } {
  const { version, ...rest } = parseKeyUrl(text);
  if (version !== undefined) return { ...rest, version };
  throw new KeyholdError(
    codes.ERR_KEY_URL,
    `cannot use key id ${JSON.stringify(rest.id)}: it names no version`,
    { fields: { url: rest.id } },
  );
}

/**
 * Whether an answered kid names the key that was asked for. The host is left out (a vault has more
 * than one name), and so is case, which Key Vault ignores.
 */
export function isSameKey(
  answered: string | undefined,
  asked: { name: string; version: string | undefined },
): boolean {
  if (answered === undefined || !URL.canParse(answered)) return false;
  const [, collection, name, version] = new URL(answered).pathname.toLowerCase().split('/');
  return (
    collection === 'keys' &&
    name === asked.name.toLowerCase() &&
    (asked.version === undefined || version === asked.version.toLowerCase())
  );
}

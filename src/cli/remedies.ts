// SPDX-License-Identifier: Apache-2.0
import type { DoctorCheck, DoctorTarget } from '../admin/api-doctor.js';

/**
 * The one place that says what to do about what `doctor` found: lines that can be pasted where a
 * command helps, sentences where none does. Checks carry facts only.
 */

/** The role that has get, wrapKey and unwrapKey on keys, and nothing else. */
const ROLE = 'Key Vault Crypto Service Encryption User';

type Remedy = (about: About) => readonly string[];

/** What a remedy is filled with. */
interface About {
  readonly check: DoctorCheck;
  readonly target: DoctorTarget | undefined;
  /** `--vault-name NAME --name KEY`, with the version if one is known. */
  readonly key: string;
  /** `--name VAULT`, or `--hsm-name`. */
  readonly vault: string;
  readonly host: string;
}

/** Remedies of a check that did not pass; none for one that did. */
export function remediesOf(check: DoctorCheck, target?: DoctorTarget): readonly string[] {
  if (check.verdict === 'ok' || check.verdict === 'skipped') return [];
  const code = check.code ?? '';
  const isEmbedded = target?.identityKind === 'embedded-vault';
  const names = [`${check.id}/${code}`, `*/${code}`, `${check.id}/*`];
  const tables = isEmbedded ? [EMBEDDED, REMEDIES] : [REMEDIES];
  for (const table of tables) {
    for (const name of names) {
      const remedy = Object.hasOwn(table, name) ? table[name] : undefined;
      if (remedy !== undefined) return remedy(aboutOf(check, target));
    }
  }
  return check.verdict === 'fail' ? remedyOfRest(aboutOf(check, target)) : [];
}

function aboutOf(check: DoctorCheck, target: DoctorTarget | undefined): About {
  const vaultName = quote(target?.vaultName ?? 'VAULT');
  const isHsm = target?.managedHsm === true;
  const version = versionOf(check, target);
  const vaultOption = isHsm ? `--hsm-name ${vaultName}` : `--vault-name ${vaultName}`;
  const key = `${vaultOption} --name ${quote(target?.keyName ?? 'KEY')}`;
  return {
    check,
    target,
    key: version === undefined ? key : `${key} --version ${quote(version)}`,
    vault: isHsm ? `--hsm-name ${vaultName}` : `--name ${vaultName}`,
    host: target === undefined ? 'VAULT' : new URL(target.vaultUrl).host,
  };
}

/** Of the check itself (a canary names its version), else of the key as it was read. */
function versionOf(check: DoctorCheck, target: DoctorTarget | undefined): string | undefined {
  const kid = check.facts['kid'] ?? target?.checks.find(({ id }) => id === 'key')?.facts['kid'];
  if (typeof kid !== 'string') return target?.keyVersion ?? undefined;
  return new URL(kid).pathname.split('/')[3];
}

/** The caller's object id in Entra ID, as its token says; else where to look it up. */
function principalOf({ target }: About): string {
  const facts = target?.checks.find(({ id }) => id === 'token')?.facts ?? {};
  const objectId = facts['objectId'];
  if (typeof objectId === 'string') return quote(objectId);
  const clientId = facts['clientId'] ?? 'CLIENT_ID';
  return `"$(az ad sp show --id ${quote(String(clientId))} --query id --output tsv)"`;
}

/** A fact of the check or, if it has none such, of the identity. */
function fact({ check, target }: About, name: string, otherwise: string): string {
  const identity = target?.checks.find(({ id }) => id === 'identity')?.facts;
  const value = check.facts[name] ?? identity?.[name];
  return value === undefined ? otherwise : String(value);
}

function quote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const grantRole: Remedy = (about) => {
  const { target, vault } = about;
  const keyName = quote(target?.keyName ?? 'KEY');
  const grantee = `--assignee-object-id ${principalOf(about)}`;
  if (target?.managedHsm === true) {
    const role = 'Managed HSM Crypto Service Encryption User';
    const scope = `--scope /keys/${keyName}`;
    return [`az keyvault role assignment create ${vault} --role "${role}" ${grantee} ${scope}`];
  }
  const scope = `"$(az keyvault show ${vault} --query id --output tsv)/keys/${keyName}"`;
  return [
    `az role assignment create --role "${ROLE}" ${grantee} ` +
      `--assignee-principal-type ServicePrincipal --scope ${scope}`,
    'a new role assignment takes up to ten minutes',
  ];
};

/** For a vault with access policies; with RBAC the role of `grantRole` is what gives the same. */
const grantPolicy: Remedy = (about) => [
  `az keyvault set-policy ${about.vault} --object-id ${principalOf(about)} ` +
    '--key-permissions get wrapKey unwrapKey',
  `or, in a vault with role-based access, the role "${ROLE}" on the key`,
];

const enable: Remedy = ({ key }) => [`az keyvault key set-attributes ${key} --enabled true`];
const permit: Remedy = ({ key }) => [
  `az keyvault key set-attributes ${key} --ops wrapKey unwrapKey`,
];
const renew: Remedy = ({ key }) => [`az keyvault key rotate ${key.replace(/ --version \S+$/, '')}`];
const makeRsa: Remedy = ({ key }) => [
  `az keyvault key create ${key.replace(/ --version \S+$/, '')} --kty RSA --size 3072 ` +
    '--ops wrapKey unwrapKey',
];
const newSecret: Remedy = (about) => [
  `az ad app credential reset --append --id ${quote(fact(about, 'clientId', 'CLIENT_ID'))} ` +
    '--query password --output tsv',
  `write it into ${fact(about, 'secretFile', "the identity's secret file")}; no restart is needed`,
];
const reach: Remedy = ({ host }) => [
  `let this host reach ${host} on TCP port 443, directly or by proxy in [vault]`,
];
const trust: Remedy = ({ host }) => [
  `find out who signs for ${host}: openssl s_client -connect ${host.includes(':') ? host : `${host}:443`} -showcerts`,
  'a private CA belongs into ca_file of [vault]; exempt the vault from TLS inspection',
];
const reachAuthority: Remedy = (about) => [
  `let this host reach ${fact(about, 'authority', 'the identity provider')} on TCP port 443`,
];
const onMachine: Remedy = () => [
  'assign the identity to this machine: az vm identity assign --name VM --resource-group GROUP ' +
    '--identities IDENTITY',
];
const application: Remedy = (about) => [
  `az ad sp show --id ${quote(fact(about, 'clientId', 'CLIENT_ID'))}`,
  `check client_id and tenant_id (${fact(about, 'tenantId', 'TENANT')}) of [identity.` +
    `${fact(about, 'name', 'NAME')}]`,
];
const firewall: Remedy = (about) => [
  `az keyvault network-rule add ${about.vault} ` +
    `--ip-address ${fact(about, 'clientAddress', 'ADDRESS_OF_THIS_HOST')}`,
];
const unit = (setting: string): Remedy => {
  return () => [`systemctl edit keyhold: [Service] ${setting}, then systemctl restart keyhold`];
};

const REMEDIES: Readonly<Record<string, Remedy>> = {
  'identity/ERR_VAULT_IDENTITY': (about) => [
    `add [identity.${fact(about, 'name', 'NAME')}] to the configuration, or name one that it has`,
  ],
  'identity/ERR_IDENTITY_SECRET': (about) => [
    `${fact(about, 'secretFile', 'the secret file')} must exist, be readable for the daemon's ` +
      'user, and hold one line',
  ],
  'identity/SecretReadable': (about) => [`chmod o= ${quote(fact(about, 'secretFile', 'FILE'))}`],
  '*/ERR_VAULT_CA_FILE': () => ['ca_file of [vault] must name a readable PEM file'],
  'dns/ENOTFOUND': ({ vault, host }) => [
    `getent hosts ${host.replace(/:\d+$/, '')}`,
    `az keyvault show ${vault}, or, if it was deleted: az keyvault recover ${vault}`,
  ],
  'dns/*': () => ['check the name servers in /etc/resolv.conf'],
  'connect/*': reach,
  'connect/SELF_SIGNED_CERT_IN_CHAIN': trust,
  'connect/DEPTH_ZERO_SELF_SIGNED_CERT': trust,
  'connect/UNABLE_TO_VERIFY_LEAF_SIGNATURE': trust,
  'connect/UNABLE_TO_GET_ISSUER_CERT_LOCALLY': trust,
  'connect/CERT_HAS_EXPIRED': trust,
  'connect/ERR_TLS_CERT_ALTNAME_INVALID': trust,
  '*/NotFromVault': ({ host }) => [
    `something else answers in the place of ${host}: curl -v https://${host}/`,
    'set proxy in [vault], or exempt the vault from inspection by proxies and portals',
  ],
  'clock/ClockDifference': () => ['timedatectl set-ntp true'],
  '*/AADSTS7000215': newSecret,
  '*/AADSTS7000222': newSecret,
  '*/AADSTS700016': application,
  '*/AADSTS90002': application,
  '*/ERR_IDENTITY_TENANT': application,
  '*/AADSTS7000112': (about) => [
    `az ad sp update --id ${quote(fact(about, 'clientId', 'CLIENT_ID'))} --set accountEnabled=true`,
  ],
  '*/AADSTS53003': () => ['exempt the identity from the Conditional Access policy that blocks it'],
  'token/TIMEOUT': reachAuthority,
  'token/ENOTFOUND': reachAuthority,
  'token/ECONNREFUSED': reachAuthority,
  'token/invalid_request': onMachine,
  'token/unauthorized_client': onMachine,
  '*/ERR_KEY_DISABLED': enable,
  '*/KeyDisabled': enable,
  '*/KeyNotFound': ({ key }) => [
    `az keyvault key recover ${key.replace(/ --version \S+$/, '')}`,
    'or check name and version in the URL',
  ],
  '*/ForbiddenByRbac': grantRole,
  '*/ForbiddenByPolicy': grantPolicy,
  '*/AccessDenied': grantPolicy,
  '*/Forbidden': grantRole,
  '*/ForbiddenByFirewall': firewall,
  '*/ForbiddenByConnection': ({ vault }) => [
    'use a private endpoint of the vault in the network of this host, or:',
    `az keyvault update ${vault} --public-network-access Enabled`,
  ],
  '*/KeyOperationForbidden': permit,
  '*/ERR_KEY_OPERATIONS': permit,
  '*/ERR_KEY_TYPE': makeRsa,
  '*/ERR_KEY_SIZE': makeRsa,
  '*/ERR_KEY_PURGEABLE': ({ vault }) => [
    `az keyvault update ${vault} --enable-purge-protection true`,
  ],
  'key-dates/KeyExpired': renew,
  'key-dates/KeyExpiresSoon': renew,
  'key-dates/KeyNotYetValid': ({ key }) => [
    `az keyvault key set-attributes ${key} --not-before "$(date -u +%Y-%m-%dT%H:%M:%SZ)"`,
  ],
  'canary/CanaryMismatch': () => [
    'the record of the set is damaged, or another key answers under this id: restore the record',
  ],
  '*/ChallengeMismatch': () => [
    'the vault names another resource than its own: only for one outside the Azure domains set ' +
      'verify_challenge_resource = false in [vault]',
  ],
  'locked-memory/*': unit('LimitMEMLOCK=infinity'),
  'core-dumps/*': unit('LimitCORE=0'),
  'secret-memory/*': () => ['use a kernel 5.14 or later, booted with secretmem.enable=1'],
  'swap/*': () => ['swapoff --all, or swap on a dm-crypt device with a random key'],
  'engine/NoIoUring': () => ['sysctl --write kernel.io_uring_disabled=0, unless that is policy'],
  'engine/ShardDead': () => ['systemctl restart keyhold; its log says why the shard died'],
  'state-directory/StateDirectoryMode': (about) => [
    `chmod 0700 ${quote(fact(about, 'path', 'DIRECTORY'))}`,
  ],
  'state-directory/StateDirectoryOwner': (about) => [
    `chown ${fact(about, 'daemonUid', 'USER')} ${quote(fact(about, 'path', 'DIRECTORY'))}`,
  ],
  'record/*': (about) => [`restore ${fact(about, 'path', 'the record')} from a backup`],
};

const embeddedKey = ({ target }: About): string => quote(target?.keyName ?? 'KEY');

/** The same for the embedded vault, which `keyhold vault` drives. */
const EMBEDDED: Readonly<Record<string, Remedy>> = {
  '*/ERR_KEY_DISABLED': (about) => [`keyhold vault enable ${embeddedKey(about)}`],
  '*/KeyDisabled': (about) => [`keyhold vault enable ${embeddedKey(about)}`],
  '*/KeyNotFound': (about) => [`keyhold vault recover ${embeddedKey(about)}`],
  '*/ForbiddenByRbac': () => ['keyhold vault allow'],
  '*/ForbiddenByPolicy': () => ['keyhold vault allow'],
  '*/AccessDenied': () => ['keyhold vault allow'],
  '*/ForbiddenByFirewall': () => ['keyhold vault firewall open'],
  '*/ForbiddenByConnection': () => ['keyhold vault firewall open'],
  '*/AADSTS700016': () => ['keyhold vault application enabled'],
  '*/AADSTS7000112': () => ['keyhold vault application enabled'],
  '*/AADSTS7000222': () => ['keyhold vault application enabled'],
  '*/ERR_KEY_PURGEABLE': () => ['keyhold vault recovery-level Recoverable'],
  'key-dates/KeyExpired': (about) => [`keyhold vault rotate ${embeddedKey(about)}`],
  'key-dates/KeyExpiresSoon': (about) => [`keyhold vault rotate ${embeddedKey(about)}`],
  '*/TIMEOUT': () => ['keyhold vault trouble none'],
  'connect/ECONNREFUSED': () => ['keyhold dev'],
};

function remedyOfRest({ target }: About): readonly string[] {
  return target?.set == null
    ? ['try again; if it stays, the log of the daemon and the message say more']
    : [`try again; if it stays: keyhold set show ${quote(target.set)}`];
}

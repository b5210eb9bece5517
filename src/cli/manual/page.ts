// SPDX-License-Identifier: Apache-2.0
import { exitCodeMeanings } from '../exit-codes.js';
import { SERVICE_ADMIN_SOCKET } from '../paths.js';
import { type CommandNode, flatten, type OptionNode, usageOf } from '../tree.js';
import { bold, item, line, verbatim } from './roff.js';

/** When the prose of this file last changed: a date of the build would change the bytes. */
const PAGE_DATE = '2026-11-28';

/** keyhold(1), made from the program itself. The same input gives the same bytes. */
export function manualPage(tree: CommandNode, version: string): string {
  const common = new Map(tree.options.map(({ long, description }) => [long, description]));
  const commands = flatten(tree).filter(({ commands, path }) => {
    return path.length > 0 && commands.length === 0;
  });
  const lines = [
    `.TH KEYHOLD 1 ${PAGE_DATE} "keyhold ${version}" "Keyhold"`,
    '.SH NAME',
    `keyhold \\- serve encrypted virtual disks over NBD, with keys held in Azure Key Vault`,
    '.SH SYNOPSIS',
    `${bold('keyhold')} \\fIcommand\\fR [\\fIoptions\\fR]`,
    '.SH DESCRIPTION',
    ...tree.description.split('\n').map(line),
    ...DESCRIPTION.flatMap((text) => ['.PP', line(text)]),
    '.SH COMMON OPTIONS',
    'Every command takes these, before or after its name, unless it says otherwise.',
    ...tree.options.flatMap(optionItem),
    '.SH COMMANDS',
    ...commands.flatMap((node) => commandPart(node, common)),
    '.SH EXIT STATUS',
    ...exitCodeMeanings().flatMap(([code, meaning]) => item(bold(String(code)), meaning)),
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.flatMap(([name, text]) => item(bold(name), text)),
    '.SH FILES',
    ...FILES.flatMap(([path, text]) => item(`\\fI${line(path)}\\fR`, text)),
    '.SH EXAMPLES',
    ...EXAMPLES.flatMap(([text, example], index) => [
      index === 0 ? '' : '.PP',
      line(text),
      ...verbatim(`    ${example}`),
    ]),
    '.SH SEE ALSO',
    SEE_ALSO.map(([name, section]) => `.BR ${name} (${section})`).join(' ,\n'),
    '.PP',
    line('The documentation is in docs/: KEYS.md, LIFECYCLE.md, ERRORS.md, JSON.md, METRICS.md.'),
  ];
  return `${lines.filter((text) => text !== '').join('\n')}\n`;
}

function commandPart(node: CommandNode, common: ReadonlyMap<string, string>): string[] {
  const own = node.options.filter(({ long, description }) => common.get(long) !== description);
  const taken = new Set(node.options.map(({ long }) => long));
  const missing = [...common.keys()].filter((long) => long !== '--version' && !taken.has(long));
  const choices = node.arguments.flatMap(({ name, choices }) =>
    choices === null ? [] : [`<${name}> is one of: ${choices.join(', ')}.`],
  );
  return [
    `.SS ${bold(usageOf(node))}`,
    line(sentence(node.description)),
    ...choices.map(line),
    ...own.flatMap(optionItem),
    ...(node.notes === '' ? [] : verbatim(node.notes)),
    ...(missing.length === 0 ? [] : ['.PP', line(`It does not take ${missing.join(', ')}.`)]),
  ];
}

function optionItem({ flags, description, value, mandatory }: OptionNode): string[] {
  const choices = value?.choices ?? null;
  const words = choices === null ? '' : ` One of: ${choices.join(', ')}.`;
  return item(bold(flags), `${sentence(description)}${words}${mandatory ? ' Required.' : ''}`);
}

/** The help's phrases as sentences. */
function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1).replaceAll('\n', ' ');
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

const DESCRIPTION = [
  'Everything that is written to a disk is encrypted with AES-256-XTS before it reaches the store. ' +
    "The key of a disk stands in memory only while Key Vault grants access to the customer's key. " +
    'When the customer takes the access away, the disks go offline.',
  'Tables fit the terminal; in a pipe they are as wide as what they hold, and without colours. ' +
    'With --json every command prints JSON, whose shapes docs/JSON.md lists. Errors go to standard ' +
    'error with a code, which docs/ERRORS.md explains.',
];

const ENVIRONMENT: ReadonlyArray<readonly [string, string]> = [
  ['KEYHOLD_SOCKET', 'The admin socket of the daemon, unless --socket names another one.'],
  ['KEYHOLD_VAULT_SOCKET', 'The control socket of the embedded vault, unless --vault-socket does.'],
  ['NO_COLOR', 'Any value that is not empty turns colours off.'],
  ['TERM', 'A terminal named dumb gets no colours and no live picture.'],
  ['XDG_CACHE_HOME', 'Where keyhold dev keeps its state, in a directory keyhold; else ~/.cache.'],
];

const FILES: ReadonlyArray<readonly [string, string]> = [
  ['/etc/keyhold/keyhold.toml', 'The configuration of the daemon.'],
  [SERVICE_ADMIN_SOCKET, 'The admin API: HTTP on a unix socket.'],
  ['/run/keyhold/nbd.sock', 'Where NBD clients of this machine connect.'],
  ['/var/lib/keyhold', 'Records of sets and disks, stores that were given no path, the audit log.'],
  ['~/.cache/keyhold', 'The same for keyhold dev, with its vault, sockets and logs.'],
];

const EXAMPLES: ReadonlyArray<readonly [string, string]> = [
  ['Try everything on one machine, without Azure:', 'keyhold dev'],
  [
    'Make an encryption set on a key, and a disk in it:',
    'keyhold set create prod --key https://myvault.vault.azure.net/keys/disks\n' +
      '    keyhold disk create db01 --set prod --size 100G --attach',
  ],
  [
    'Find out why a disk is offline, and what to do:',
    'keyhold disk show db01; keyhold doctor prod',
  ],
  ['Watch the disks, then what happens to one set:', 'keyhold top; keyhold events --set prod'],
  [
    'Names of all disks that are not online, for a script:',
    `keyhold disk list --json | jq -r '.disks[] | select(.state != "online") | .name'`,
  ],
];

const SEE_ALSO: ReadonlyArray<readonly [string, string]> = [
  ['nbd-client', '8'],
  ['nbdinfo', '1'],
  ['cryptsetup', '8'],
  ['systemd.unit', '5'],
];

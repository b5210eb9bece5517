// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import { DENIED_MEANS, ON_EXPIRY, PROFILE_NAMES, REVOKE_WHEN } from '../../admin/api-sets.js';
import { KeyholdError } from '../../base/errors.js';
import { parseDurationMs } from '../../base/units.js';
import {
  addCommand,
  type CliContext,
  connect,
  isJson,
  notEmpty,
  parsedBy,
  print,
  printJson,
  printNext,
} from '../context.js';
import { codes } from '../errors.js';
import { plain } from '../text.js';
import { formatSet } from '../views/set.js';

type Mode = 'immediate' | 'restart';

interface PolicyOptions {
  readonly probeInterval?: number;
  readonly lease?: number;
  readonly suspendTimeout?: number;
  readonly rotationInterval?: number;
  readonly holdOnHeal?: boolean;
  readonly revokeWhen?: (typeof REVOKE_WHEN)[number];
  readonly onExpiry?: (typeof ON_EXPIRY)[number];
  readonly identityDenied?: (typeof DENIED_MEANS)[number];
  readonly networkDenied?: (typeof DENIED_MEANS)[number];
}

interface CreateOptions extends PolicyOptions {
  readonly key?: string;
  readonly key2?: string;
  readonly platform?: true;
  readonly identity?: string;
  readonly onRevoke: Mode;
  readonly profile?: (typeof PROFILE_NAMES)[number];
  readonly allowPurgeable?: true;
  readonly availabilityKey?: true;
  readonly double?: true;
}

/** What a set may do, when, and how fast; the same words at its creation and later. */
function policyOptions(): Option[] {
  const duration = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(parsedBy(parseDurationMs));
  return [
    duration('--probe-interval <time>', 'time between two probes, such as 5s'),
    duration('--lease <time>', 'how long one proof of access permits keys in memory'),
    duration('--suspend-timeout <time>', 'how long requests wait after the lease ended'),
    duration('--rotation-interval <time>', 'how often newer versions of the key are looked for'),
    new Option('--revoke-when <keys>', 'with two keys: a denial of any or of all revokes').choices(
      REVOKE_WHEN,
    ),
    new Option('--on-expiry <what>', 'what the date of an expired key means').choices(ON_EXPIRY),
    new Option('--identity-denied <what>', 'what the loss of the identity means').choices(
      DENIED_MEANS,
    ),
    new Option('--network-denied <what>', "what a refusal by the vault's firewall means").choices(
      DENIED_MEANS,
    ),
    new Option('--hold-on-heal', 'keep disks offline until an operator attaches them'),
  ];
}

function policyOf(options: PolicyOptions) {
  const { probeInterval, lease, suspendTimeout, rotationInterval } = options;
  return withoutUndefined({
    probeIntervalMs: probeInterval,
    leaseMs: lease,
    suspendTimeoutMs: suspendTimeout,
    rotationIntervalMs: rotationInterval,
    holdOnHeal: options.holdOnHeal,
    revokeWhen: options.revokeWhen,
    onExpiry: options.onExpiry,
    identityDenied: options.identityDenied,
    networkDenied: options.networkDenied,
  });
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(fields: T): Defined<T> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Defined<T>;
}

export function addCreateCommand(set: Command, context: CliContext): void {
  const url = (flags: string, description: string): Option =>
    new Option(flags, description).argParser(notEmpty);
  const command = addCommand(set, 'create <name>', 'create a set on a customer key in a vault')
    .addOption(url('--key <url>', 'URL of the RSA key, with or without a version'))
    .addOption(url('--key2 <url>', 'URL of a second key, best in another vault'))
    .addOption(new Option('--platform', 'use the platform key of this host, and no vault'))
    .addOption(url('--identity <name>', 'identity of the config (else the only one there is)'))
    .addOption(
      new Option('--on-revoke <mode>', 'disks go offline at once, or at their next restart')
        .choices(['immediate', 'restart'])
        .default('immediate'),
    )
    .addOption(
      new Option('--profile <name>', 'probe interval and lease that fit together').choices(
        PROFILE_NAMES,
      ),
    )
    .addOption(new Option('--availability-key', 'let the host stand in while no vault answers'))
    .addOption(new Option('--double', 'encrypt twice: also under the platform key'))
    .addOption(new Option('--allow-purgeable', 'take a key from a vault without purge protection'));
  for (const option of policyOptions()) command.addOption(option);
  command.action(async (name: string, options: CreateOptions, own: Command) => {
    assertOneKind(name, options);
    const { key, key2, identity, onRevoke, profile, allowPurgeable } = options;
    const { availabilityKey, double } = options;
    const view = await (
      await connect(context, own)
    ).createSet({
      name,
      mode: onRevoke,
      ...withoutUndefined({ keyUrl: key, key2Url: key2, identity, profile }),
      ...withoutUndefined({ allowPurgeable, availabilityKey, double }),
      ...policyOf(options),
    });
    if (isJson(own)) {
      printJson(context, view);
      return;
    }
    const on = view.keys.map(({ id }) => id).join(' and ') || 'the platform key of this host';
    print(context, `set ${plain(view.name)} created on ${plain(on)}\n`);
    printNext(context, `keyhold disk create NAME --set ${view.name} --size 10G`);
  });
}

export function addUpdateCommand(set: Command, context: CliContext): void {
  const command = addCommand(set, 'update <name>', 'change when and how fast a set acts')
    .addOption(
      new Option(
        '--on-revoke <mode>',
        'disks go offline at once, or at their next restart',
      ).choices(['immediate', 'restart']),
    )
    .addOption(new Option('--no-hold-on-heal', 'let disks come back by themselves'));
  for (const option of policyOptions()) command.addOption(option);
  command.action(
    async (name: string, options: PolicyOptions & { onRevoke?: Mode }, own: Command) => {
      const wished = own.getOptionValueSource('holdOnHeal') === 'cli';
      const changes = withoutUndefined({
        ...policyOf(options),
        mode: options.onRevoke,
        // The negated option gives it a default, which is nobody's wish.
        holdOnHeal: wished ? options.holdOnHeal : undefined,
      });
      const view = await (await connect(context, own)).updateSet(name, changes);
      if (isJson(own)) {
        printJson(context, view);
        return;
      }
      print(context, formatSet(context.io, view));
      printNext(context, `keyhold set impact ${view.name}`);
    },
  );
}

function assertOneKind(name: string, { key, platform }: CreateOptions): void {
  if ((key === undefined) === (platform === true)) return;
  throw new KeyholdError(
    codes.ERR_CLI_USAGE,
    `creating set ${name}: expected either --key URL or --platform, got ` +
      (platform === true ? 'both' : 'neither'),
  );
}

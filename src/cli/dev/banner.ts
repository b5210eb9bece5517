// SPDX-License-Identifier: Apache-2.0
import { findAdminSocket, findVaultSocket, nbdUnixUri, shellQuote } from '../paths.js';
import { formatFields } from '../table.js';
import { DEMO_DISK, DEMO_KEY } from './demo.js';
import type { DevPaths } from './state-directory.js';

export interface DevSummary {
  readonly directory: string;
  /** Null without a demo disk. */
  readonly uri: string | null;
  readonly nbdSocket: string;
  readonly adminSocket: string;
  readonly vaultSocket: string;
  readonly metrics: string | null;
}

export function summarize(
  paths: DevPaths,
  facts: { demoDisk: boolean; metrics: string | null },
): DevSummary {
  return {
    directory: paths.directory,
    uri: facts.demoDisk ? nbdUnixUri(DEMO_DISK, paths.nbdSocket) : null,
    nbdSocket: paths.nbdSocket,
    adminSocket: paths.adminSocket,
    vaultSocket: paths.vaultSocket,
    metrics: facts.metrics,
  };
}

/** Lines to paste into another terminal. */
export function formatBanner(
  summary: DevSummary,
  env: Readonly<Record<string, string | undefined>>,
): string {
  // The other terminal may not have this one's KEYHOLD_… variables.
  const lookup = { env: { HOME: env['HOME'], XDG_CACHE_HOME: env['XDG_CACHE_HOME'] } };
  const { adminSocket, vaultSocket, uri } = summary;
  const admin =
    findAdminSocket(lookup) === adminSocket ? '' : ` --socket ${shellQuote(adminSocket)}`;
  const vault =
    findVaultSocket(lookup) === vaultSocket ? '' : ` --vault-socket ${shellQuote(vaultSocket)}`;
  const disk: ReadonlyArray<readonly [string, string]> =
    uri === null
      ? [['create', `npx keyhold disk create NAME --set demo --size 1G --attach${admin}`]]
      : [
          ['NBD URI', uri],
          ['inspect', `nbdinfo ${shellQuote(uri)}`],
          ['copy', `nbdcopy some.iso ${shellQuote(uri)}`],
          ['mount', `nbd-client -unix ${shellQuote(summary.nbdSocket)} -N ${DEMO_DISK} /dev/nbd0`],
        ];
  const fields = formatFields([
    ...disk,
    ['metrics', summary.metrics ?? 'off'],
    ['revoke', `npx keyhold vault disable ${DEMO_KEY}${vault}`],
    ['restore', `npx keyhold vault enable ${DEMO_KEY}${vault}`],
    ['watch', uri === null ? `npx keyhold status${admin}` : `npx keyhold disk show demo${admin}`],
  ]);
  return `\nkeyhold runs in ${summary.directory}; Ctrl-C stops it, the disks stay.\n\n${fields}\n`;
}

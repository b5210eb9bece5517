// SPDX-License-Identifier: Apache-2.0
import type { Impact } from '../../admin/api-sets.js';
import type { AdminClient } from '../../admin/client.js';
import type { DevVaultClient } from '../../devvault/control-client.js';
import type { DrillHands } from './run.js';

/** Longer than any drill that waits; the daemon's own limit is an hour. */
const SIMULATION_MS = 3_600_000;

/** The daemon simulates the verdicts; nothing in a vault is touched. */
export function simulatedHands(
  client: AdminClient,
  { set, scenario }: { set: string; scenario: Impact['scenario'] },
): DrillHands {
  let struck = false;
  return {
    by: 'simulation',
    async strike() {
      await client.beginDrill(set, { scenario, durationMs: SIMULATION_MS });
      struck = true;
    },
    async restore() {
      if (!struck) return;
      struck = false;
      await client.endDrill(set);
    },
  };
}

/** The keys are really disabled or deleted, in the embedded vault. */
export function embeddedHands(
  vault: DevVaultClient,
  { kids, scenario }: { kids: readonly string[]; scenario: Impact['scenario'] },
): DrillHands {
  const keys = kids.map((kid) => {
    const [name = '', version = ''] = new URL(kid).pathname.split('/').slice(2);
    return { name, version };
  });
  const undo: Array<() => Promise<unknown>> = [];
  const each = async (
    strike: (key: { name: string; version: string }) => Promise<unknown>,
    restore: (key: { name: string; version: string }) => Promise<unknown>,
  ): Promise<void> => {
    for (const key of keys) {
      await strike(key);
      undo.push(() => restore(key));
    }
  };
  return {
    by: 'embedded-vault',
    async strike() {
      if (scenario === 'disable') {
        await each(
          ({ name, version }) => vault.disableKey(name, { version }),
          ({ name, version }) => vault.enableKey(name, { version }),
        );
      } else if (scenario === 'delete') {
        await each(
          ({ name }) => vault.deleteKey(name),
          ({ name }) => vault.recoverKey(name),
        );
      } else {
        await vault.trouble({ kind: 'drop', operation: '*' });
        undo.push(() => vault.trouble({ kind: 'none', operation: '*' }));
      }
    },
    async restore() {
      for (let next = undo.pop(); next !== undefined; next = undo.pop()) await next();
    },
  };
}

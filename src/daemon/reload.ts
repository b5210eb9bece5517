// SPDX-License-Identifier: Apache-2.0
import type { Caller, ReloadResult } from '../admin/api.js';
import { KeyholdError, messageOf } from '../base/errors.js';
import { compareConfigs } from '../config/changes.js';
import type { FilledConfig } from '../config/config.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { SetService } from '../sets/set-service.js';
import type { ClosableVaultAccess } from '../vault/access.js';
import { readCa } from '../vault/transport.js';
import type { Alarms } from './alarms.js';
import type { Anchors } from './anchor.js';
import { codes } from './errors.js';
import { reloadTls } from './tls.js';
import type { Trail } from './trail.js';

const ALARM = 'config';

export interface ReloaderOptions {
  /** What the daemon was started with. */
  readonly config: FilledConfig;
  /** Reads and checks the file anew. */
  readonly readConfig: () => Promise<FilledConfig>;
  readonly plane: Pick<DataPlane, 'loadTls'>;
  readonly vault: Pick<ClosableVaultAccess, 'reconfigure'>;
  readonly anchors: Pick<Anchors, 'reconfigure'>;
  readonly sets: Pick<SetService, 'list'>;
  readonly alarms: Pick<Alarms, 'raise' | 'clear'>;
  readonly trail: Pick<Trail, 'record'>;
}

/**
 * Holds the config that is in force, and puts another one in force: all of it or nothing. What can
 * fail comes first; what then puts it in force cannot.
 */
export class Reloader {
  readonly #options: ReloaderOptions;
  #config: FilledConfig;
  #working: Promise<unknown> = Promise.resolve();

  constructor(options: ReloaderOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /** The one in force. */
  get config(): FilledConfig {
    return this.#config;
  }

  /**
   * Reads the config and the TLS files that it names, one reload after the other. Throws what
   * reading throws, ERR_RELOAD_RESTART for keys that only a restart can change,
   * ERR_RELOAD_IDENTITY for an identity that a set needs, ERR_VAULT_CA_FILE, ERR_TLS_FILES. On
   * error everything is as it was, and an alarm says so until a reload succeeds.
   */
  async reload(caller: Pick<Caller, 'uid' | 'pid'>): Promise<ReloadResult> {
    const done = this.#working.then(() => this.#reload(caller));
    this.#working = done.catch(() => undefined);
    return done;
  }

  async #reload({ uid, pid }: Pick<Caller, 'uid' | 'pid'>): Promise<ReloadResult> {
    const { plane, alarms, vault, anchors, trail } = this.#options;
    const { config, changed } = await this.#readChecked();
    const { files } = reloadTls({ plane, alarms, files: config.nbd.tlsFiles });
    this.#config = config;
    if (changed.some((name) => /^(identity|vault\.)/.test(name))) {
      vault.reconfigure({ identities: config.identities, transport: config.vault });
    }
    if (changed.some((name) => name.startsWith('audit.'))) anchors.reconfigure(config.audit);
    // Names alone: a value may be the password of a proxy.
    if (changed.length > 0) await trail.record('config-reloaded', { changed, uid, pid });
    return { files, changed: [...changed] };
  }

  async #readChecked(): Promise<{ config: FilledConfig; changed: readonly string[] }> {
    const { readConfig, alarms } = this.#options;
    try {
      const config = await readConfig();
      const { live, restart } = compareConfigs(this.#config, config);
      if (restart.length > 0) throw needsRestart(config.path, restart, live);
      this.#checkIdentities(config);
      if (live.includes('vault.ca_file')) await readCa(config.vault.caFile);
      alarms.clear(ALARM);
      return { config, changed: live };
    } catch (error) {
      alarms.raise(ALARM, `not reloaded, the old one stays in force: ${messageOf(error)}`);
      throw error;
    }
  }

  /** A set without its identity would lose its lease with nobody having denied anything. */
  #checkIdentities({ identities, path }: FilledConfig): void {
    for (const { name: set, record } of this.#options.sets.list()) {
      const { identity } = record;
      // One that was missing before is no worse than it was.
      if (!Object.hasOwn(this.#config.identities, identity)) continue;
      if (Object.hasOwn(identities, identity)) continue;
      throw new KeyholdError(
        codes.ERR_RELOAD_IDENTITY,
        `reloading config ${path}: expected identity ${identity}, which encryption set ${set} ` +
          `uses, found ${Object.keys(identities).join(', ') || 'none'}`,
        { fields: { path, set, identity } },
      );
    }
  }
}

function needsRestart(
  path: string,
  restart: readonly string[],
  live: readonly string[],
): KeyholdError {
  const rest = live.length === 0 ? '' : `; ${live.join(', ')} could, and waits with the others`;
  return new KeyholdError(
    codes.ERR_RELOAD_RESTART,
    `reloading config ${path}: ${restart.join(', ')} cannot change while the daemon runs${rest}`,
    { fields: { path, restart, live } },
  );
}

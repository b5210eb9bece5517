// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from 'node:util';
import type { FilledConfig } from './config.js';

interface Key {
  /** `live`: a running daemon can take a new value; `restart`: only the next one does. */
  readonly when: 'live' | 'restart';
  readonly of: (config: FilledConfig) => unknown;
}

const live = (of: Key['of']): Key => ({ when: 'live', of });
const restart = (of: Key['of']): Key => ({ when: 'restart', of });

/** Every key of the config by the name that the docs have for it. A test compares them. */
export const CONFIG_KEYS: Readonly<Record<string, Key>> = {
  // Locked, and full of what is open.
  state_dir: restart(({ stateDir }) => stateDir),
  // Bound when the daemon starts, some of them by the service manager.
  'nbd.socket': restart(({ nbd }) => nbd.socket),
  'nbd.socket_tls': restart(({ nbd }) => nbd.socketTls),
  'nbd.listen': restart(({ nbd }) => nbd.listen),
  // Of listeners that say nothing, which is in what `listen` was filled with; and of the inherited.
  'nbd.tls': restart(({ nbd }) => nbd.tls),
  'nbd.certificate': live(({ nbd: { tlsFiles } }) => {
    if (tlsFiles === null) return null;
    const { certFile, keyFile, clientCaFile, clientCertificates } = tlsFiles;
    return [certFile, keyFile, clientCaFile, clientCertificates];
  }),
  'nbd.psk': live(({ nbd }) => nbd.tlsFiles?.pskFile ?? null),
  'audit.anchor_interval': live(({ audit }) => audit.anchorIntervalMs),
  'audit.anchor': live(({ audit }) => audit.syslog),
  'audit.anchor_socket': live(({ audit }) => audit.syslogSocket),
  'admin.socket': restart(({ admin }) => admin.socket),
  'metrics.listen': restart(({ metrics }) => metrics.listen),
  'data_plane.shards': restart(({ dataPlane }) => dataPlane.shards),
  'data_plane.xts': restart(({ dataPlane }) => dataPlane.xts),
  'data_plane.engine': restart(({ dataPlane }) => dataPlane.engine),
  'data_plane.cipher_threads': restart(({ dataPlane }) => dataPlane.cipherThreads),
  'data_plane.busy_poll_us': restart(({ dataPlane }) => dataPlane.busyPollUs),
  // The key stands in locked memory from the start on, and DEKs are sealed with it.
  'platform_key.file': restart(({ platformKey }) => platformKey?.kind === 'file' && platformKey),
  'platform_key.credential': restart(
    ({ platformKey }) => platformKey?.kind === 'credential' && platformKey,
  ),
  'disks.linger': restart(({ disks }) => disks.lingerMs),
  'disks.grace': restart(({ disks }) => disks.graceMs),
  identity: live(({ identities }) => identities),
  'vault.ca_file': live(({ vault }) => vault.caFile),
  'vault.verify_challenge_resource': live(({ vault }) => vault.verifyChallengeResource),
  'vault.proxy': live(({ vault }) => vault.proxy),
  // Probe intervals and leases of sets were judged by it.
  'vault.timeout': restart(({ vault }) => vault.timeoutMs),
  'vault.service_version': live(({ vault }) => vault.serviceVersion),
};

/** Names of the keys that differ. TLS that begins or ends altogether is the listeners' matter. */
export interface ConfigChanges {
  readonly live: readonly string[];
  readonly restart: readonly string[];
}

export function compareConfigs(before: FilledConfig, after: FilledConfig): ConfigChanges {
  const changed = Object.entries(CONFIG_KEYS).filter(
    ([, { of }]) => !isDeepStrictEqual(of(before), of(after)),
  );
  const tlsBeginsOrEnds = (before.nbd.tlsFiles === null) !== (after.nbd.tlsFiles === null);
  const needsRestart = (name: string, { when }: Key): boolean =>
    when === 'restart' || (tlsBeginsOrEnds && name.startsWith('nbd.'));
  const names = (restarts: boolean): string[] =>
    changed.filter(([name, key]) => needsRestart(name, key) === restarts).map(([name]) => name);
  return { live: names(false), restart: names(true) };
}

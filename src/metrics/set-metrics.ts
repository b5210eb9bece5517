// SPDX-License-Identifier: Apache-2.0
import type { Registry } from 'prom-client';
import { registerSampledMetric, stateSamples } from './sampled-metric.js';
import type { KeySample, SetSample } from './sources.js';

const VERDICTS = ['PROOF', 'DENIED', 'NO-ANSWER'];
const ACCESS = ['unknown', 'granted', 'denied', 'lapsed'];

type Samples = ReturnType<typeof stateSamples>;
type Register = (name: string, help: string, read: (set: SetSample) => Samples) => void;

/** Gauges of encryption sets and of their key versions, as docs/METRICS.md lists them. */
export function registerSetMetrics(registry: Registry, sets: () => readonly SetSample[]): void {
  const register: Register = (name, help, read) => {
    const readAll = (): Samples => sets().flatMap(read);
    registerSampledMetric(registry, { name, help, type: 'gauge', read: readAll });
  };
  registerAccess(register);
  registerKeys(register);
}

function registerAccess(register: Register): void {
  register(
    'keyhold_set_lease_seconds_left',
    'Time for which the last proof still permits keys in memory; absent before the first.',
    (set) => perSet(set, set.leaseSecondsLeft),
  );
  register(
    'keyhold_set_lease_seconds',
    'Time for which a proof permits keys in memory; absent on the platform key.',
    (set) => perSet(set, set.leaseSeconds),
  );
  register(
    'keyhold_set_access',
    '1 for what is known about access to the keys of the set, 0 for the others.',
    ({ name, access }) => stateSamples({ set: name }, 'access', ACCESS, access),
  );
  register(
    'keyhold_set_alarm',
    '1 while a person should look at the set.',
    ({ name: set, alarm }) => [{ labels: { set }, value: Number(alarm) }],
  );
  register(
    'keyhold_set_availability_in_use',
    '1 while the availability key stands in for a vault that gives no answer.',
    (set) => [{ labels: { set: set.name }, value: Number(set.availabilityInUse) }],
  );
  register(
    'keyhold_set_rotation_failing',
    '1 while a newer version of a key cannot be taken over.',
    (set) => [{ labels: { set: set.name }, value: Number(set.rotationFailing) }],
  );
  register(
    'keyhold_set_revocation_deadline_seconds',
    'The vault begins to refuse, to the keys wiped: what the set promises; absent on the platform key.',
    (set) => perSet(set, set.revocationDeadlineSeconds),
  );
  register(
    'keyhold_set_revocation_max_seconds',
    "Probe's start to the last key wiped: the longest since the start; absent before the first.",
    (set) => perSet(set, set.revocationMaxSeconds),
  );
}

function registerKeys(register: Register): void {
  register(
    'keyhold_key_expiry_timestamp_seconds',
    'The date of the key, as it was last looked at; absent without one.',
    (set) => perKey(set, (key) => (key.expiresMs === null ? null : key.expiresMs / 1000)),
  );
  register(
    'keyhold_key_last_probe_timestamp_seconds',
    'When the key was probed last; absent before the first probe.',
    (set) => perKey(set, (key) => (key.lastProbeMs === null ? null : key.lastProbeMs / 1000)),
  );
  register(
    'keyhold_key_last_verdict',
    '1 for the verdict of the last probe, 0 for the others.',
    (set) =>
      set.keys.flatMap((key) =>
        stateSamples(keyLabels(set, key), 'verdict', VERDICTS, key.verdict),
      ),
  );
}

function perSet({ name: set }: SetSample, value: number | null): Samples {
  return value === null ? [] : [{ labels: { set }, value }];
}

function perKey(set: SetSample, read: (key: KeySample) => number | null): Samples {
  return set.keys.flatMap((key) => {
    const value = read(key);
    return value === null ? [] : [{ labels: keyLabels(set, key), value }];
  });
}

function keyLabels(set: SetSample, key: KeySample): { set: string; key_version: string } {
  return { set: set.name, key_version: key.version };
}

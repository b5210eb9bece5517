// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { test } from 'tap';
import { COMMANDS } from '../../src/dataplane/addon.js';
import { histogramSamples } from '../../src/metrics/sampled-metric.js';
import type { DiskSample, SetSample } from '../../src/metrics/sources.js';
import { parseExposition } from './exposition.js';
import { DISK, metricsOf, samplesOf, SET, stats } from './samples.js';

void test('a scrape is text that a strict reader takes', async (t) => {
  const metrics = metricsOf([DISK], [SET]);
  metrics.observeProbe({ set: 's1', verdict: 'PROOF', durationMs: 12 });
  const families = parseExposition(await metrics.scrape());
  t.ok(families.size > 30);
  t.equal(metrics.contentType, 'text/plain; version=0.0.4; charset=utf-8');
});

void test('native counters arrive per disk, command and result', async (t) => {
  const samples = await samplesOf(metricsOf([DISK], [SET]));
  t.match(samples, {
    'keyhold_nbd_requests_total{disk=d1,command=read,result=ok}': 10,
    'keyhold_nbd_requests_total{disk=d1,command=write,result=error}': 4,
    'keyhold_nbd_requests_total{disk=d1,command=write_zeroes,result=shutdown}': 5,
    'keyhold_nbd_bytes_total{disk=d1,command=write}': 8192,
    'keyhold_nbd_request_seconds_total{disk=d1,command=write}': 1,
    'keyhold_cipher_bytes_total{disk=d1,direction=encrypt}': 2 ** 52 + 1,
    'keyhold_cipher_bytes_total{disk=d1,direction=decrypt}': 7,
  });
});

void test('state, key and connections of a disk are shown', async (t) => {
  t.match(await samplesOf(metricsOf([DISK], [SET])), {
    'keyhold_disk_info{disk=d1,set=s1}': 1,
    'keyhold_disk_size_bytes{disk=d1}': 2 ** 30,
    'keyhold_disk_state{disk=d1,state=online}': 1,
    'keyhold_disk_state{disk=d1,state=offline}': 0,
    'keyhold_disk_state{disk=d1,state=suspended}': 0,
    'keyhold_disk_revoked{disk=d1}': 1,
    'keyhold_disk_key_present{disk=d1}': 1,
    'keyhold_disk_in_flight{disk=d1}': 4,
    'keyhold_disk_parked{disk=d1}': 1,
    'keyhold_disk_connections{disk=d1}': 2,
  });
});

void test('a disk that is not open has a state and a reason but no counters', async (t) => {
  const disk: DiskSample = { ...DISK, state: 'offline', reason: 'key-disabled', stats: null };
  const samples = await samplesOf(metricsOf([disk], []));
  t.match(samples, {
    'keyhold_disk_state{disk=d1,state=offline}': 1,
    'keyhold_disk_offline_reason{disk=d1,reason=key-disabled}': 1,
    'keyhold_disk_key_present{disk=d1}': 0,
    'keyhold_disk_connections{disk=d1}': 0,
  });
  t.same(
    Object.keys(samples).filter((name) => /^keyhold_nbd_.*disk=/.test(name)),
    [],
  );
});

void test('lease, access and last probe of a set are shown', async (t) => {
  t.match(await samplesOf(metricsOf([], [SET])), {
    'keyhold_set_lease_seconds{set=s1}': 900,
    'keyhold_set_lease_seconds_left{set=s1}': 12.5,
    'keyhold_set_access{set=s1,access=granted}': 1,
    'keyhold_set_access{set=s1,access=denied}': 0,
    'keyhold_set_alarm{set=s1}': 0,
    'keyhold_key_last_probe_timestamp_seconds{set=s1,key_version=v1}': 1_767_225_600.123,
    'keyhold_key_last_verdict{set=s1,key_version=v1,verdict=PROOF}': 1,
    'keyhold_key_last_verdict{set=s1,key_version=v1,verdict=NO-ANSWER}': 0,
  });
});

void test('a set that was never probed has no lease and no time of a probe', async (t) => {
  const keys = [{ version: 'v1', lastProbeMs: null, verdict: null, expiresMs: null }];
  const set: SetSample = { ...SET, access: 'unknown', leaseSecondsLeft: null, keys };
  const samples = await samplesOf(metricsOf([], [set]));
  t.equal(samples['keyhold_key_last_verdict{set=s1,key_version=v1,verdict=PROOF}'], 0);
  t.same(
    Object.keys(samples).filter((name) => /lease_seconds_left|timestamp_seconds\{set/.test(name)),
    [],
  );
});

void test('a set on the platform key has no lease', async (t) => {
  const set: SetSample = { ...SET, leaseSeconds: null, leaseSecondsLeft: null };
  const names = Object.keys(await samplesOf(metricsOf([], [set])));
  t.same(
    names.filter((name) => name.includes('lease')),
    [],
  );
});

void test('the daemon is shown', async (t) => {
  t.match(await samplesOf(metricsOf([], [])), {
    'keyhold_build_info{version=0.1.0}': 1,
    'keyhold_connections{}': 3,
    'keyhold_connections_negotiating{}': 1,
    'keyhold_shards{}': 2,
    'keyhold_shards_alive{}': 1,
    'keyhold_shard_restarts_total{}': 5,
    'keyhold_shard_cpu_seconds_total{shard=0}': 1.5,
    'keyhold_shard_cpu_seconds_total{shard=1}': 0.25,
    'keyhold_audit_failures_total{}': 0,
  });
});

void test('a revocation counts once and is timed to wipe and to offline', async (t) => {
  const metrics = metricsOf([], []);
  metrics.observeRevocation({
    set: 's1',
    reason: 'key-disabled',
    verdictBootMs: 1000,
    keyWipedBootMs: 1000.5,
    drainedBootMs: 1250,
  });
  const name = 'keyhold_revocation_offline_seconds';
  t.match(await samplesOf(metrics), {
    'keyhold_revocations_total{set=s1,reason=key-disabled}': 1,
    [`${name}_sum{phase=key_wiped}`]: 0.0005,
    [`${name}_sum{phase=offline}`]: 0.25,
    [`${name}_bucket{le=0.0005,phase=key_wiped}`]: 1,
    [`${name}_bucket{le=0.1,phase=offline}`]: 0,
    [`${name}_bucket{le=0.5,phase=offline}`]: 1,
  });
});

void test('probes count by verdict and are timed', async (t) => {
  const metrics = metricsOf([], []);
  metrics.observeProbe({ set: 's1', verdict: 'PROOF', durationMs: 20 });
  metrics.observeProbe({ set: 's1', verdict: 'NO-ANSWER', durationMs: 5000 });
  metrics.observeAuditFailure();
  t.match(await samplesOf(metrics), {
    'keyhold_probes_total{set=s1,verdict=PROOF}': 1,
    'keyhold_probes_total{set=s1,verdict=NO-ANSWER}': 1,
    'keyhold_probe_duration_seconds_count{set=s1}': 2,
    'keyhold_probe_duration_seconds_sum{set=s1}': 5.02,
    'keyhold_audit_failures_total{}': 1,
  });
});

void test('what may happen to a set counts from zero, so that its first time is an increase', async (t) => {
  const samples = await samplesOf(metricsOf([], [SET]));
  t.match(samples, {
    'keyhold_probes_total{set=s1,verdict=DENIED}': 0,
    'keyhold_probes_total{set=s1,verdict=NO-ANSWER}': 0,
    'keyhold_revocations_total{set=s1,reason=key-disabled}': 0,
    'keyhold_revocations_total{set=s1,reason=key-expired}': 0,
    'keyhold_revocation_offline_seconds_count{phase=key_wiped}': 0,
  });
});

void test('what has happened to a set is not set back by the next scrape', async (t) => {
  const metrics = metricsOf([], [SET]);
  metrics.observeProbe({ set: 's1', verdict: 'DENIED', durationMs: 20 });
  await metrics.scrape();
  t.equal((await samplesOf(metrics))['keyhold_probes_total{set=s1,verdict=DENIED}'], 1);
});

void test('refusals count by reason, from zero', async (t) => {
  const metrics = metricsOf([], []);
  metrics.observeRefusal('denied');
  metrics.observeRefusal('denied');
  t.match(await samplesOf(metrics), {
    'keyhold_nbd_refused_total{reason=denied}': 2,
    'keyhold_nbd_refused_total{reason=unknown}': 0,
    'keyhold_nbd_refused_total{reason=offline}': 0,
  });
});

void test('label values with quotes, backslashes and newlines come through', async (t) => {
  const name = 'a"b\\c\nd';
  const families = parseExposition(await metricsOf([{ ...DISK, name }], []).scrape());
  t.equal(families.get('keyhold_disk_info')?.samples[0]?.labels['disk'], name);
});

void test('metrics of a scrape show one instant, and scrapes at once share it', async (t) => {
  let reads = 0;
  const metrics = metricsOf([], [], {
    disks: () => {
      reads += 1;
      return [DISK];
    },
  });
  const [one, two] = await Promise.all([metrics.scrape(), metrics.scrape()]);
  t.equal(one, two);
  t.equal(reads, 1);
  await metrics.scrape();
  t.equal(reads, 2);
});

void test('a source that fails fails the scrape, and the next one works again', async (t) => {
  let broken = true;
  const metrics = metricsOf([], [], {
    sets: () => {
      if (broken) throw new Error('no sets');
      return [];
    },
  });
  await t.rejects(metrics.scrape(), { message: 'no sets' });
  broken = false;
  await t.resolves(metrics.scrape());
});

void test('a histogram with another number of buckets is a mistake, not a metric', (t) => {
  t.throws(() => histogramSamples('h', {}, { bounds: [1, 2], counts: [1, 2], sum: 0 }), {
    message: 'h: expected 3 buckets, got 2',
  });
  t.end();
});

void test('the budget of a vault is shown by share, also below zero', async (t) => {
  t.match(await samplesOf(metricsOf([], [])), {
    'keyhold_vault_budget_tokens{vault=v.example,share=probe}': 200,
    'keyhold_vault_budget_tokens{vault=v.example,share=bulk}': -5,
    'keyhold_vault_throttled_total{vault=v.example}': 3,
  });
});

void test('docs/METRICS.md has every metric and no other', async (t) => {
  const page = await readFile(new URL('../../docs/METRICS.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `(keyhold_\w+)` \| (\w+) \|/gm)].map(
    (m) => `${m[1]} ${m[2]}`,
  );
  const families = parseExposition(await metricsOf([DISK], [SET]).scrape());
  const exported = [...families]
    .filter(([name]) => name.startsWith('keyhold_'))
    .map(([name, { type }]) => `${name} ${type}`);
  t.same(documented.sort(), exported.sort());
});

void test('docs/METRICS.md names the labels of every metric', async (t) => {
  const page = await readFile(new URL('../../docs/METRICS.md', import.meta.url), 'utf8');
  const disk: DiskSample = { ...DISK, reason: 'detached' };
  const metrics = metricsOf([disk], [SET]);
  metrics.observeProbe({ set: 's1', verdict: 'PROOF', durationMs: 1 });
  metrics.observeRevocation({
    set: 's1',
    reason: 'r',
    verdictBootMs: 0,
    keyWipedBootMs: 0,
    drainedBootMs: 0,
  });
  const families = parseExposition(await metrics.scrape());
  for (const [, name = '', cell = ''] of page.matchAll(
    /^\| `(keyhold_\w+)` \| \w+ \| ?(.*?) ?\|/gm,
  )) {
    const labels = Object.keys(families.get(name)?.samples[0]?.labels ?? {}).filter(
      (one) => one !== 'le',
    );
    t.same([...cell.matchAll(/`(\w+)`/g)].map((m) => m[1]).sort(), labels.sort(), name);
  }
});

void test('a command that a disk has never answered has no series', async (t) => {
  const { read } = stats.commands;
  const idle = { ...stats, commands: read === undefined ? {} : { read } };
  const samples = await samplesOf(metricsOf([{ ...DISK, stats: idle }], []));
  const commands = Object.keys(samples).map((name) => /command=(\w+)/.exec(name)?.[1] ?? 'read');
  t.same([...new Set(commands)], ['read']);
});

void test('a scrape of many disks lets others run in between', async (t) => {
  let turns = 0;
  let scraped = false;
  const count = (): void => {
    turns += 1;
    if (!scraped) setImmediate(count);
  };
  setImmediate(count);
  const disks = Array.from({ length: 1000 }, (_, index) => ({ ...DISK, name: `d${index}` }));
  await metricsOf(disks, []).scrape();
  scraped = true;
  t.ok(turns > 100, `${turns} turns`);
});

void test('every command of the data plane is shown', async (t) => {
  const samples = await samplesOf(metricsOf([DISK], []));
  for (const one of COMMANDS) t.hasProp(samples, `keyhold_nbd_bytes_total{disk=d1,command=${one}}`);
});

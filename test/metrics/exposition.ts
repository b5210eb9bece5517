// SPDX-License-Identifier: Apache-2.0

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: { name: string; labels: Record<string, string>; value: number }[];
}

/**
 * A strict reader of the Prometheus text format 0.0.4, as an oracle: HELP and TYPE stand once and
 * before the samples, samples of a family stand together, names and labels are well formed, no
 * sample twice; counters end in _total and are not negative; histograms are cumulative and
 * complete.
 */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the text does not end in a newline');
  const families = new Map<string, Family>();
  let current: { name: string; family: Family } | undefined;
  let pendingHelp: { name: string; help: string } | undefined;
  const seen = new Set<string>();
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const help = /^# HELP (\S+) (.+)$/.exec(line);
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary|untyped)$/.exec(line);
    if (help !== null) {
      pendingHelp = { name: help[1] ?? '', help: help[2] ?? '' };
      if (families.has(pendingHelp.name)) throw new Error(`${pendingHelp.name} appears twice`);
    } else if (type !== null) {
      const name = type[1] ?? '';
      if (pendingHelp?.name !== name) throw new Error(`${name} has no HELP right before TYPE`);
      const family = { type: type[2] ?? '', help: pendingHelp.help, samples: [] };
      families.set(name, family);
      current = { name, family };
    } else {
      if (current === undefined) throw new Error(`a sample without family: ${line}`);
      const sample = parseSample(line);
      assertBelongs(sample.name, current.name, current.family.type);
      const identity = `${sample.name}${JSON.stringify(Object.entries(sample.labels).sort())}`;
      if (seen.has(identity)) throw new Error(`a sample twice: ${line}`);
      seen.add(identity);
      current.family.samples.push(sample);
    }
  }
  for (const [name, family] of families) checkFamily(name, family);
  return families;
}

function parseSample(line: string): Family['samples'][number] {
  const head = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?/.exec(line);
  if (head === null) throw new Error(`no metric name: ${line}`);
  const labels: Record<string, string> = {};
  let rest = line.slice(head[0].length);
  while (head[2] !== undefined) {
    const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"([,}])/.exec(rest);
    if (label === null) throw new Error(`no label at ${rest}`);
    const [all, name = '', value = '', end] = label;
    if (name in labels) throw new Error(`label ${name} twice: ${line}`);
    labels[name] = value.replace(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c));
    rest = rest.slice(all.length);
    if (end === '}') break;
  }
  const value = /^ (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\+Inf|-Inf|Nan)$/i.exec(rest);
  if (value === null) throw new Error(`no value at ${JSON.stringify(rest)}: ${line}`);
  const text = value[1] ?? '';
  return { name: head[1] ?? '', labels, value: Number(text.replace('Inf', 'Infinity')) };
}

function assertBelongs(sample: string, family: string, type: string): void {
  const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  if (!suffixes.some((suffix) => sample === family + suffix)) {
    throw new Error(`sample ${sample} among those of ${type} ${family}`);
  }
}

function checkFamily(name: string, { type, samples }: Family): void {
  if (type === 'counter') {
    // nodejs_ and process_ names are prom-client's, which keeps to the rule as well.
    if (!name.endsWith('_total')) throw new Error(`counter ${name} does not end in _total`);
    if (samples.some(({ value }) => !(value >= 0))) throw new Error(`counter ${name} below zero`);
  } else if (name.endsWith('_total') && !name.startsWith('nodejs_')) {
    throw new Error(`${type} ${name} ends in _total`);
  }
  if (type === 'histogram') checkHistogram(name, samples);
}

function checkHistogram(name: string, samples: Family['samples']): void {
  const series = new Map<string, { buckets: [number, number][]; sum?: number; count?: number }>();
  for (const { name: sample, labels, value } of samples) {
    const { le, ...others } = labels;
    const key = JSON.stringify(others);
    const one = series.get(key) ?? { buckets: [] };
    series.set(key, one);
    if (sample === `${name}_sum`) one.sum = value;
    else if (sample === `${name}_count`) one.count = value;
    else one.buckets.push([Number((le ?? '').replace('+Inf', 'Infinity')), value]);
  }
  for (const [key, { buckets, sum, count }] of series) {
    const problem = (text: string): Error => new Error(`${name}${key}: ${text}`);
    if (sum === undefined || count === undefined) throw problem('sum or count is missing');
    if (buckets.at(-1)?.[0] !== Number.POSITIVE_INFINITY)
      throw problem('no +Inf bucket at the end');
    if (buckets.at(-1)?.[1] !== count) throw problem('count differs from the +Inf bucket');
    buckets.reduce(([le, value], [nextLe, nextValue]) => {
      if (!(nextLe > le)) throw problem(`bounds do not rise at ${nextLe}`);
      if (nextValue < value) throw problem(`not cumulative at ${nextLe}`);
      return [nextLe, nextValue];
    });
  }
}

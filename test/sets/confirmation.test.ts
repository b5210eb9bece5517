// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  CERTAIN_RETRIES_MAX,
  CERTAIN_RETRY_MS,
  CLEAR,
  type Confirmation,
  type ConfirmationStep,
  observe,
  PROPAGATING_SPACING_MS,
} from '../../src/sets/confirmation.js';
import type { Verdict, VerdictClass } from '../../src/vault/types.js';

function verdict(
  verdictClass: VerdictClass,
  startedBootMs: number,
  kind?: Verdict['kind'],
): Verdict {
  const usual =
    verdictClass === 'proof'
      ? 'PROOF'
      : ['denied-certain', 'denied-propagating', 'integrity'].includes(verdictClass)
        ? 'DENIED'
        : 'NO-ANSWER';
  return { kind: kind ?? usual, class: verdictClass, message: '', startedBootMs, durationMs: 1 };
}

/** Feeds classes, each with the time of its probe's start, and returns the last step. */
function feed(...seen: Array<[VerdictClass, number]>): ConfirmationStep {
  let step: ConfirmationStep = { confirmation: CLEAR, recheckMs: undefined };
  for (const [verdictClass, startedBootMs] of seen) {
    step = observe(step.confirmation, verdict(verdictClass, startedBootMs), startedBootMs);
  }
  return step;
}

function kindOf(step: ConfirmationStep): Confirmation['kind'] {
  return step.confirmation.kind;
}

void test('a firewall is confirmed like a propagating denial, for sets that count it', (t) => {
  const step = feed(['denied-network', 0], ['denied-network', 2500], ['denied-network', 5000]);
  t.match(step.confirmation, { kind: 'confirmed', evidence: 'conditional' });
  t.end();
});

void test('a firewall that vanishes in between is no denial', (t) => {
  const step = feed(['denied-network', 0], ['proof', 2500], ['denied-network', 5000]);
  t.match(step.confirmation, { kind: 'suspected', denials: 1 });
  t.end();
});

void test('one certain denial is suspected and re-checked at once', (t) => {
  const step = feed(['denied-certain', 0]);
  t.match(step, { confirmation: { kind: 'suspected', evidence: 'certain' }, recheckMs: 0 });
  t.end();
});

void test('a second certain denial confirms', (t) => {
  t.equal(kindOf(feed(['denied-certain', 0], ['denied-certain', 10])), 'confirmed');
  t.end();
});

void test('a propagating denial confirms a certain one', (t) => {
  t.equal(kindOf(feed(['denied-certain', 0], ['denied-propagating', 10])), 'confirmed');
  t.end();
});

void test('a proof between two certain denials clears', (t) => {
  t.equal(kindOf(feed(['denied-certain', 0], ['proof', 5])), 'clear');
  t.equal(kindOf(feed(['denied-certain', 0], ['proof', 5], ['denied-certain', 10])), 'suspected');
  t.end();
});

void test('no answer neither confirms nor clears a certain suspicion, and is retried soon', (t) => {
  const step = feed(['denied-certain', 0], ['no-answer', 5]);
  t.match(step, { confirmation: { kind: 'suspected', denials: 1 }, recheckMs: CERTAIN_RETRY_MS });
  t.equal(
    kindOf(feed(['denied-certain', 0], ['no-answer', 5], ['denied-certain', 9])),
    'confirmed',
  );
  t.end();
});

void test('quick retries without an answer are bounded', (t) => {
  const silence = Array.from({ length: CERTAIN_RETRIES_MAX + 1 }, (_, index) => {
    return ['no-answer', index + 1] as [VerdictClass, number];
  });
  const step = feed(['denied-certain', 0], ...silence);
  t.match(step, { confirmation: { kind: 'suspected' }, recheckMs: undefined });
  t.end();
});

void test('integrity is confirmed like a certain denial', (t) => {
  t.equal(kindOf(feed(['integrity', 0], ['integrity', 5])), 'confirmed');
  t.end();
});

void test('three propagating denials within less than five seconds do not confirm', (t) => {
  const step = feed(
    ['denied-propagating', 0],
    ['denied-propagating', 2400],
    ['denied-propagating', 4999],
  );
  t.match(step, {
    confirmation: { kind: 'suspected', denials: 3 },
    recheckMs: PROPAGATING_SPACING_MS,
  });
  t.end();
});

void test('two propagating denials far apart do not confirm', (t) => {
  t.equal(kindOf(feed(['denied-propagating', 0], ['denied-propagating', 60_000])), 'suspected');
  t.end();
});

void test('three propagating denials over five seconds confirm', (t) => {
  const step = feed(
    ['denied-propagating', 0],
    ['denied-propagating', 2500],
    ['denied-propagating', 5000],
  );
  t.match(step.confirmation, { kind: 'confirmed', firstSeenMs: 0 });
  t.end();
});

void test('a proof between propagating denials starts the count anew', (t) => {
  const step = feed(
    ['denied-propagating', 0],
    ['denied-propagating', 2500],
    ['proof', 4000],
    ['denied-propagating', 5000],
  );
  t.match(step.confirmation, { kind: 'suspected', denials: 1 });
  t.end();
});

void test('no answer between propagating denials keeps the count', (t) => {
  const step = feed(
    ['denied-propagating', 0],
    ['no-answer', 2500],
    ['denied-propagating', 5000],
    ['denied-propagating', 7500],
  );
  t.equal(kindOf(step), 'confirmed');
  t.end();
});

void test('a certain denial turns a propagating suspicion certain, and is itself confirmed', (t) => {
  const certain = feed(['denied-propagating', 0], ['denied-certain', 2500]);
  t.match(certain, { confirmation: { kind: 'suspected', evidence: 'certain' }, recheckMs: 0 });
  const both = feed(['denied-propagating', 0], ['denied-certain', 2500], ['denied-certain', 2600]);
  t.match(both.confirmation, { kind: 'confirmed', firstSeenMs: 0 });
  t.end();
});

void test('confirmed stays through denials and silence, until a proof', (t) => {
  const confirmed = [
    ['denied-certain', 0],
    ['denied-certain', 1],
  ] as Array<[VerdictClass, number]>;
  t.equal(kindOf(feed(...confirmed, ['no-answer', 2])), 'confirmed');
  t.equal(kindOf(feed(...confirmed, ['denied-propagating', 2])), 'confirmed');
  t.equal(kindOf(feed(...confirmed, ['proof', 2])), 'clear');
  t.end();
});

for (const silent of ['no-answer', 'ambiguous'] as const) {
  void test(`${silent} never raises suspicion`, (t) => {
    t.equal(kindOf(feed([silent, 0], [silent, 2500], [silent, 5000], [silent, 9000])), 'clear');
    t.end();
  });
}

void test('a network denial that policy calls DENIED is confirmed slowly', (t) => {
  const step = observe(CLEAR, verdict('denied-network', 0, 'DENIED'), 0);
  t.match(step, { confirmation: { kind: 'suspected', evidence: 'propagating' } });
  t.end();
});

void test('the loss of the identity is confirmed like a propagating denial', (t) => {
  const step = feed(['denied-identity', 0], ['denied-identity', 2500], ['denied-identity', 5000]);
  t.match(step.confirmation, { kind: 'confirmed', evidence: 'conditional' });
  t.end();
});

void test('the loss of the identity does not confirm a denial of the key', (t) => {
  t.equal(kindOf(feed(['denied-certain', 0], ['denied-identity', 5])), 'suspected');
  t.end();
});

void test('a denial of the key after a lost identity is confirmed in its own right', (t) => {
  const lost = [0, 2500, 5000].map((at) => ['denied-identity', at] as [VerdictClass, number]);
  t.match(feed(...lost, ['denied-certain', 6000]).confirmation, {
    kind: 'suspected',
    evidence: 'certain',
  });
  t.end();
});

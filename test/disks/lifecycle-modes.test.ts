// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import { plainFacts, transition } from '../../src/disks/lifecycle.js';
import {
  NOW,
  disabled,
  GRANTED,
  DENIED,
  LAPSED,
  offline,
  online,
  revoked,
  suspended,
  GO,
  type Row,
  immediate,
  restart,
  detach,
  again,
  access,
  leaseEnded,
  timer,
  check,
} from './lifecycle-rows.js';

const immediateMode: Row[] = [
  [
    'a denial takes an online disk offline',
    online,
    access,
    { access: DENIED },
    'offline(key-disabled)+',
    GO('key-disabled'),
  ],
  [
    'a denial takes a suspended disk offline',
    suspended,
    access,
    { access: DENIED },
    'offline(key-disabled)+',
    GO('key-disabled'),
  ],
  [
    'a lapse suspends',
    online,
    access,
    { access: LAPSED },
    'suspended+',
    ['suspend', 'start suspend'],
  ],
  [
    'a lapse leaves a suspended disk suspended',
    suspended,
    access,
    { access: LAPSED },
    'suspended+',
    [],
  ],
  [
    'native code ending the lease suspends',
    online,
    leaseEnded,
    { access: LAPSED },
    'suspended+',
    ['start suspend'],
  ],
  [
    'a lease that holds again resumes at once',
    online,
    leaseEnded,
    { access: GRANTED },
    'suspended+',
    ['start suspend', 'resume'],
  ],
  [
    'native code comes too late for an offline disk',
    offline('key-disabled', { attached: true }),
    leaseEnded,
    { access: DENIED },
    'offline(key-disabled)+',
    [],
  ],
  [
    'a proof resumes a suspended disk',
    suspended,
    access,
    { access: GRANTED, holdOnHeal: true },
    'suspended+',
    ['resume'],
  ],
  [
    'resumed is online, and the suspend timer ends',
    suspended,
    { kind: 'resumed' },
    { access: GRANTED },
    'online+',
    ['stop suspend'],
  ],
  [
    'a resume without the key stays suspended',
    suspended,
    { kind: 'resume-failed', facts: disabled },
    {},
    'suspended+',
    [],
  ],
  [
    'a resume with a wrong DEK goes offline',
    suspended,
    { kind: 'resume-failed', facts: plainFacts('integrity', NOW) },
    {},
    'offline(integrity)+',
    GO('integrity'),
  ],
  [
    'the suspend timeout goes offline',
    suspended,
    timer('suspend'),
    { access: LAPSED },
    'offline(lease-expired)+',
    GO('lease-expired'),
  ],
];

const restartMode: Row[] = [
  [
    'a denial marks a disk with clients revoked',
    online,
    access,
    { access: DENIED, clients: 2 },
    'online revoked+',
    [],
  ],
  [
    'a denial of an idle disk starts the grace time',
    online,
    access,
    { access: DENIED, clients: 0 },
    'online revoked+',
    ['start grace'],
  ],
  [
    'the same denial again changes nothing',
    revoked,
    access,
    { access: DENIED, clients: 0 },
    'online revoked+',
    [],
  ],
  ['a lapse changes nothing', online, access, { access: LAPSED }, 'online+', []],
  ['a proof lifts the mark', revoked, access, { access: GRANTED }, 'online+', ['stop grace']],
  [
    'the last client leaving starts the grace time',
    revoked,
    { kind: 'clients' },
    { access: DENIED, clients: 0 },
    'online revoked+',
    ['start grace'],
  ],
  [
    'a client coming stops the grace time',
    revoked,
    { kind: 'clients' },
    { access: DENIED, clients: 1 },
    'online revoked+',
    ['stop grace'],
  ],
  [
    'clients of a disk that is not revoked start nothing',
    online,
    { kind: 'clients' },
    { access: GRANTED, clients: 0 },
    'online+',
    [],
  ],
  [
    'the end of the grace time goes offline',
    revoked,
    timer('grace'),
    { access: DENIED, clients: 0 },
    'offline(key-disabled)+',
    GO('key-disabled'),
  ],
  [
    'the end of the grace time spares a disk with clients',
    revoked,
    timer('grace'),
    { access: DENIED, clients: 1 },
    'online revoked+',
    [],
  ],
  [
    'detach of a revoked disk shows the denial',
    revoked,
    detach,
    { access: DENIED, clients: 1 },
    'offline(key-disabled)',
    ['record!', 'stop suspend', 'stop grace', 'go-offline(key-disabled)', 'start linger'],
  ],
  [
    'restart of a revoked disk is refused, and the intent stays',
    revoked,
    again,
    { access: DENIED },
    'offline(key-disabled)+',
    [
      'stop suspend',
      'stop grace',
      'go-offline(key-disabled)',
      'disconnect',
      'record',
      'refuse key key-disabled',
    ],
  ],
  [
    'restart of a revoked disk whose key is back opens again',
    revoked,
    again,
    { access: GRANTED },
    'offline(detached)+',
    ['stop suspend', 'stop grace', 'go-offline(detached)', 'disconnect', 'open'],
  ],
];

check(immediateMode, immediate);
check(restartMode, restart);

void test('a disk that was held before a denial is held again after it', (t) => {
  const waiting = offline('key-disabled', { attached: true, waiting: true });
  const context = { ...immediate, holdOnHeal: true, clients: 0, nowMs: NOW };
  const denied = transition(waiting, access, { ...context, access: DENIED }).control;
  t.strictSame(transition(denied, access, { ...context, access: GRANTED }).effects, []);
  t.end();
});

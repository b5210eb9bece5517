// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import { encodeMetaContextData, OPT, REP } from '../support/nbd-wire.js';
import { runOk } from '../support/process.js';
import { MIB, Rig } from './rig.js';

/* What negotiation advertises is what the data plane then does, with real clients as judges. */

/** A disk of 4 MiB with data in its second; the URI of its export. */
async function diskWithData(t: Parameters<typeof Rig.start>[0]) {
  const rig = await Rig.start(t);
  const where = rig.listen();
  await rig.serve('d');
  const writer = await rig.client(where, 'd');
  await writer.write(MIB, Buffer.alloc(MIB, 7));
  await writer.disconnect();
  return { where, uri: `nbd+unix:///d?socket=${join(rig.dir, 'nbd-1.sock')}` };
}

interface Extent {
  readonly offset: number;
  readonly length: number;
  readonly description: string;
}

void test('nbdinfo maps data and holes of base:allocation', async (t) => {
  const { uri } = await diskWithData(t);
  const map = JSON.parse(await runOk('nbdinfo', ['--map', '--json', uri])) as Extent[];
  t.match(map, [
    { offset: 0, length: MIB, description: 'hole,zero' },
    { offset: MIB, length: MIB, description: 'data' },
    { offset: 2 * MIB, length: 2 * MIB, description: 'hole,zero' },
  ]);
});

for (const [what, option] of [
  ['structured replies', OPT.STRUCTURED_REPLY],
  ['extended headers', OPT.EXTENDED_HEADERS],
] as const) {
  void test(`a context that was selected under ${what} is there in transmission`, async (t) => {
    const { where } = await diskWithData(t);
    const client = await NbdClient.handshake(where);
    t.teardown(() => client.destroy());
    await client.option(option);
    const data = encodeMetaContextData('d', ['base:allocation']);
    const answered = await client.option(OPT.SET_META_CONTEXT, data);
    t.match(answered, [{ type: REP.META_CONTEXT }]);
    await client.go('d');
    t.equal((await client.request({ command: 7, offset: 0, length: MIB })).errno, 0);
  });

  void test(`a context that was selected for no disk is not there under ${what}`, async (t) => {
    const { where } = await diskWithData(t);
    const client = await NbdClient.handshake(where);
    t.teardown(() => client.destroy());
    await client.option(option);
    await client.go('d');
    t.equal((await client.request({ command: 7, offset: 0, length: MIB })).errno, 22);
  });
}

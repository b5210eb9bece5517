// SPDX-License-Identifier: Apache-2.0
import { readFile } from 'node:fs/promises';
import { t as file, test } from 'tap';
import { NbdClient } from '../support/nbd-client.js';
import {
  CMD,
  CMD_FLAG,
  encodeInfoData,
  encodeOption,
  ERRNO,
  EXPORT_FLAG,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import { enter, keyhold, keyholdWithTls, negotiate, SIZE_BYTES } from './targets.js';

/*
 * What other servers get wrong, by the number of the conformance list (reference/nbd.md 1.14). The
 * rows about TLS are in tls.test.ts.
 */

const MODES = ['simple', 'structured', 'extended'] as const;

for (const { name, writable, readOnly, rig } of [await keyhold(file), await keyholdWithTls(file)]) {
  void test(`${name}: 1.14 #1: ABORT is acknowledged, then the connection closes`, async (t) => {
    const client = await negotiate(writable);
    t.strictSame(await client.option(OPT.ABORT), []);
    t.equal((await client.stream.readToEnd()).length, 0);
    client.destroy();
  });

  void test(`${name}: 1.14 #2: each unknown client flag drops the connection`, async (t) => {
    for (let bit = 2; bit < 32; bit += 1) {
      const client = await NbdClient.handshake(writable.where, (3 | (1 << bit)) >>> 0);
      client.sendOption(OPT.LIST);
      t.equal((await client.stream.readToEnd()).length, 0, `bit ${bit}`);
      client.destroy();
    }
  });

  for (const replies of MODES) {
    void test(`${name}: 1.14 #3: a refused WRITE is drained, ${replies}`, async (t) => {
      const { client } = await enter(t, readOnly, replies);
      const refused = client.write(0, Buffer.alloc(300_000, 0x25));
      const next = client.read(0, 512);
      t.equal((await refused).errno, ERRNO.EPERM);
      t.equal((await next).errno, 0);
      await client.disconnect();
    });

    void test(`${name}: 1.14 #4: a failed READ is answered in the agreed form, ${replies}`, async (t) => {
      const { client } = await enter(t, writable, replies);
      t.match(await client.read(SIZE_BYTES, 512), { errno: ERRNO.EINVAL, kind: replies });
      t.match(await client.read(0, 512, 0x8000), { errno: ERRNO.EINVAL, kind: replies });
      await client.disconnect();
    });

    void test(`${name}: 1.14 #5: SEND_DF stands exactly where DF works, ${replies}`, async (t) => {
      const { client, facts } = await enter(t, writable, replies);
      const { errno } = await client.read(0, 65_536, CMD_FLAG.DF);
      t.equal(errno, (facts.flags & EXPORT_FLAG.SEND_DF) !== 0 ? 0 : ERRNO.EINVAL);
      t.equal((facts.flags & EXPORT_FLAG.SEND_DF) !== 0, replies !== 'simple');
      await client.disconnect();
    });

    void test(`${name}: 1.14 #6: NO_HOLE is refused on any command but WRITE_ZEROES, ${replies}`, async (t) => {
      const { client } = await enter(t, writable, replies);
      for (const command of [
        CMD.READ,
        CMD.WRITE,
        CMD.FLUSH,
        CMD.TRIM,
        CMD.CACHE,
        CMD.BLOCK_STATUS,
      ]) {
        const payload = command === CMD.WRITE ? { payload: Buffer.alloc(512) } : {};
        const length = command === CMD.FLUSH ? 0 : 512;
        const request = { command, flags: CMD_FLAG.NO_HOLE, length, ...payload };
        t.equal((await client.request(request)).errno, ERRNO.EINVAL, `command ${command}`);
      }
      await client.disconnect();
    });

    void test(`${name}: 1.14 #7: EPERM and ENOSPC stay what they are, ${replies}`, async (t) => {
      const { client: fixed } = await enter(t, readOnly, replies);
      t.equal((await fixed.write(0, Buffer.alloc(512))).errno, ERRNO.EPERM);
      const { client } = await enter(t, writable, replies);
      t.equal((await client.write(SIZE_BYTES - 1, Buffer.alloc(2))).errno, ERRNO.ENOSPC);
      const zeroes = { command: CMD.WRITE_ZEROES, offset: SIZE_BYTES, length: 1 };
      t.equal((await client.request(zeroes)).errno, ERRNO.ENOSPC);
      await client.disconnect();
      await fixed.disconnect();
    });
  }

  void test(`${name}: 1.14 #8: a READ beyond the longest payload is refused, and not with ENOMEM`, async (t) => {
    await rig.serve('large', { sizeBytes: 2 ** 33 });
    for (const replies of MODES) {
      const { client } = await enter(t, { ...writable, export: 'large' }, replies);
      for (const length of [2 ** 25 + 1, 2 ** 26, 2 ** 31, 2 ** 32 - 1]) {
        const { errno } = await client.read(0, length);
        const allowed = replies === 'simple' ? [ERRNO.EINVAL] : [ERRNO.EINVAL, ERRNO.EOVERFLOW];
        t.ok(allowed.includes(errno as 22), `${replies}, ${length} bytes: errno ${errno}`);
      }
      t.equal((await client.read(2 ** 32, 2 ** 25)).errno, 0, 'the longest payload is served');
      await client.disconnect();
    }
  });

  for (const replies of ['structured', 'extended'] as const) {
    void test(`${name}: 1.14 #11, CVE-2025-47711, CVE-2025-47712: status of 4 GiB, ${replies}`, async (t) => {
      const huge = `huge-${replies}`;
      await rig.serve(huge, { sizeBytes: 2 ** 33 });
      const { client } = await enter(t, { ...writable, export: huge }, replies);
      const lengths = [2 ** 32 - 1, 2 ** 32 - 512, 2 ** 32 - 65_536, 2 ** 31];
      const longer = replies === 'extended' ? [2 ** 32, 2 ** 32 + 1, 2 ** 33] : [];
      for (const flags of [0, CMD_FLAG.REQ_ONE]) {
        for (const length of [...lengths, ...longer]) {
          const reply = await client.request({ command: CMD.BLOCK_STATUS, flags, length });
          t.equal(reply.errno, 0);
          const [extents = []] = [...reply.status.values()];
          const sum = extents.reduce((total, extent) => total + extent.length, 0n);
          t.ok(sum > 0n && sum <= 2n ** 33n, `${length} bytes: ${sum}`);
          // The last extent of a request that ends inside a block may end with it.
          const whole = extents.every((extent) => extent.length % 512n === 0n);
          t.ok(whole || length % 512 !== 0, `${length} bytes: multiples of a block`);
        }
      }
      await client.disconnect();
    });

    void test(`${name}: 1.14 #12: extents are multiples of the minimum block, ${replies}`, async (t) => {
      const { client, facts } = await enter(t, writable, replies);
      const minimum = BigInt(facts.blockSize?.min ?? 1);
      await client.write(100_001, Buffer.from([1]));
      await client.request({ command: CMD.TRIM, offset: 200_003, length: 50_001 });
      await client.request({ command: CMD.WRITE_ZEROES, offset: 300_007, length: 33_333 });
      const { status } = await client.request({ command: CMD.BLOCK_STATUS, length: SIZE_BYTES });
      const [extents = []] = [...status.values()];
      t.ok(extents.length > 1, 'there are data and holes');
      for (const { length } of extents) t.equal(length % minimum, 0n, `extent of ${length}`);
      await client.disconnect();
    });

    void test(`${name}: 1.14 #13: every error in transmission has a text, ${replies}`, async (t) => {
      const { client } = await enter(t, writable, replies);
      const wrong = [
        { command: 99, length: 512 },
        { command: CMD.READ, offset: SIZE_BYTES, length: 512 },
        { command: CMD.READ, flags: 0x4000, length: 512 },
        { command: CMD.FLUSH, offset: 512 },
      ];
      for (const request of wrong) t.match(await client.request(request), { message: /[a-z]{3}/ });
      await client.disconnect();
    });
  }

  void test(`${name}: 1.14 #13: every refused option has a text`, async (t) => {
    const client = await negotiate(writable);
    t.teardown(() => client.destroy());
    const refused: [number, Buffer][] = [
      [4242, Buffer.alloc(0)],
      [OPT.PEEK_EXPORT, Buffer.alloc(0)],
      [OPT.LIST, Buffer.from('x')],
      [OPT.INFO, encodeInfoData('no such disk')],
      [OPT.GO, Buffer.alloc(3)],
      [OPT.STARTTLS, Buffer.alloc(0)],
    ];
    for (const [option, data] of refused) {
      client.sendOption(option, data);
      const reply = await client.receiveOptionReply(option);
      t.ok(reply.type >= REP.ERR_UNSUP && /[a-z]{3}/.test(reply.data.toString()), `${option}`);
    }
  });

  void test(`${name}: 1.14 #15: LIST shows exactly what INFO gives`, async (t) => {
    const client = await negotiate(writable);
    t.teardown(() => client.destroy());
    for (const shown of await client.list()) {
      await t.resolves(client.info(shown.name), shown.name);
    }
    await t.rejects(client.info('no such disk'), { message: /refused with 0x80000006/ });
  });

  void test(`${name}: bytes before the first option are no option`, async (t) => {
    const client = await negotiate(writable);
    client.send(encodeOption(OPT.LIST).subarray(1));
    t.equal((await client.stream.readToEnd()).length, 0);
    client.destroy();
  });
}

void test('the list that these tests follow has no other rows', async (t) => {
  const source = await readFile(new URL(import.meta.url), 'utf8');
  const tls = await readFile(new URL('./tls.test.ts', import.meta.url), 'utf8');
  const numbers = [...`${source}${tls}`.matchAll(/1\.14 #(\d+)/g)].map(([, number]) => number);
  t.strictSame(
    [...new Set(numbers)].map(Number).sort((a, b) => a - b),
    Array.from({ length: 15 }, (_, index) => index + 1),
  );
});

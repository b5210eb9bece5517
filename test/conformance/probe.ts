// SPDX-License-Identifier: Apache-2.0
import { NbdClient } from '../support/nbd-client.js';
import {
  CMD,
  CMD_FLAG,
  encodeInfoData,
  encodeMetaContextData,
  ERRNO,
  EXPORT_FLAG,
  OPT,
  REP,
} from '../support/nbd-wire.js';
import type { OptionReply } from '../support/nbd-wire.js';
import { negotiate, SIZE_BYTES, type Place, type Target } from './targets.js';
import type { TlsTarget } from './tls-targets.js';

/** What a running server does, found out by asking it. Each probe has connections of its own. */
export type Probe<T = Target> = (target: T) => Promise<boolean>;

async function withClient<T>(place: Place, use: (client: NbdClient) => Promise<T>): Promise<T> {
  const client = await negotiate(place);
  try {
    return await use(client);
  } finally {
    client.destroy();
  }
}

/** False where the server refuses or hangs up. */
async function holds(claim: () => Promise<boolean>): Promise<boolean> {
  try {
    return await claim();
  } catch {
    return false;
  }
}

/** Replies to one option, up to ACK or an error. */
async function ask(client: NbdClient, option: number, data: Buffer): Promise<OptionReply[]> {
  const replies: OptionReply[] = [];
  client.sendOption(option, data);
  for (;;) {
    const reply = await client.receiveOptionReply(option);
    replies.push(reply);
    if (reply.type === REP.ACK || reply.type >= REP.ERR_UNSUP) return replies;
  }
}

const acknowledges =
  (option: number, data: (name: string) => Buffer = () => Buffer.alloc(0)): Probe =>
  ({ writable }) =>
    holds(() =>
      withClient(writable, async (client) => {
        if (option === OPT.LIST_META_CONTEXT || option === OPT.SET_META_CONTEXT) {
          await client.option(OPT.STRUCTURED_REPLY);
        }
        return (await ask(client, option, data(writable.export))).at(-1)?.type === REP.ACK;
      }),
    );

const tells =
  (info: number): Probe =>
  ({ writable }) =>
    holds(() =>
      withClient(writable, async (client) => {
        const replies = await ask(client, OPT.INFO, encodeInfoData(writable.export, [info]));
        return replies.some(({ type, data }) => type === REP.INFO && data.readUInt16BE(0) === info);
      }),
    );

/** In transmission, with the best replies that the server has, and base:allocation. */
async function inTransmission<T>(
  place: Place,
  use: (client: NbdClient, flags: number) => Promise<T>,
): Promise<T> {
  return withClient(place, async (client) => {
    const structured = (): Promise<unknown> => client.option(OPT.STRUCTURED_REPLY);
    await client
      .option(OPT.EXTENDED_HEADERS)
      .catch(structured)
      .catch(() => undefined);
    await client.setMetaContext(place.export).catch(() => undefined);
    return use(client, (await client.go(place.export)).flags);
  });
}

const flag =
  (bit: number): Probe =>
  ({ writable }) =>
    inTransmission(writable, (_client, flags) => Promise.resolve((flags & bit) !== 0));

const answers =
  (
    which: 'writable' | 'readOnly',
    request: Parameters<NbdClient['request']>[0],
    errno: number,
  ): Probe =>
  (target) =>
    holds(() =>
      inTransmission(
        target[which],
        async (client) => (await client.request(request)).errno === errno,
      ),
    );

export const OPTION_PROBES: Readonly<Record<string, Probe>> = {
  EXPORT_NAME: ({ writable }) =>
    holds(() =>
      withClient(writable, async (client) => {
        await client.exportName(writable.export);
        return true;
      }),
    ),
  'ABORT acknowledged': acknowledges(OPT.ABORT),
  LIST: acknowledges(OPT.LIST),
  INFO: acknowledges(OPT.INFO, (name) => encodeInfoData(name)),
  GO: acknowledges(OPT.GO, (name) => encodeInfoData(name)),
  STRUCTURED_REPLY: acknowledges(OPT.STRUCTURED_REPLY),
  LIST_META_CONTEXT: acknowledges(OPT.LIST_META_CONTEXT, (name) => encodeMetaContextData(name, [])),
  SET_META_CONTEXT: acknowledges(OPT.SET_META_CONTEXT, (name) =>
    encodeMetaContextData(name, ['base:allocation']),
  ),
  EXTENDED_HEADERS: acknowledges(OPT.EXTENDED_HEADERS),
  'unknown option answered, negotiation goes on': ({ writable }) =>
    holds(() =>
      withClient(writable, async (client) => {
        const [reply] = await ask(client, 4242, Buffer.alloc(3));
        await client.go(writable.export);
        return reply?.type === REP.ERR_UNSUP;
      }),
    ),
  'unknown client flag drops the connection': async ({ writable }) =>
    !(await holds(async () => {
      const client = await NbdClient.handshake(writable.where, 0x80000003);
      try {
        await client.option(OPT.LIST);
      } finally {
        client.destroy();
      }
      return true;
    })),
  'text with a refused option': ({ writable }) =>
    withClient(writable, async (client) => {
      const [reply] = await ask(client, OPT.INFO, encodeInfoData(`${writable.export}-missing`));
      return reply !== undefined && reply.type >= REP.ERR_UNSUP && reply.data.length > 0;
    }).catch(() => false),
  'information NAME': tells(1),
  'information DESCRIPTION': tells(2),
  'information BLOCK_SIZE': tells(3),
};

export const FLAG_PROBES: Readonly<Record<string, Probe>> = Object.fromEntries(
  Object.entries(EXPORT_FLAG)
    .filter(([name]) => !['HAS_FLAGS', 'READ_ONLY', 'ROTATIONAL'].includes(name))
    .map(([name, bit]) => [name, flag(bit)]),
);

export const COMMAND_PROBES: Readonly<Record<string, Probe>> = {
  'READ, WRITE at any alignment': ({ writable }) =>
    holds(() =>
      inTransmission(writable, async (client) => {
        const { errno } = await client.write(1001, Buffer.from('odd'));
        return errno === 0 && (await client.read(1001, 3)).data.toString() === 'odd';
      }),
    ),
  FLUSH: answers('writable', { command: CMD.FLUSH }, 0),
  'FLUSH with a range refused': answers('writable', { command: CMD.FLUSH, length: 512 }, 22),
  TRIM: answers('writable', { command: CMD.TRIM, length: 4096 }, 0),
  CACHE: answers('writable', { command: CMD.CACHE, length: 4096 }, 0),
  WRITE_ZEROES: answers('writable', { command: CMD.WRITE_ZEROES, length: 4096 }, 0),
  'FAST_ZERO succeeds': answers(
    'writable',
    { command: CMD.WRITE_ZEROES, flags: CMD_FLAG.FAST_ZERO, length: 65_536 },
    0,
  ),
  BLOCK_STATUS: answers('writable', { command: CMD.BLOCK_STATUS, length: 4096 }, 0),
  'FUA on a READ': answers('writable', { command: CMD.READ, flags: CMD_FLAG.FUA, length: 512 }, 0),
  'holes of a READ as such': ({ writable }) =>
    holds(() =>
      inTransmission(writable, async (client) =>
        (await client.read(524_288, 65_536)).chunks.includes(2),
      ),
    ),
  'a flag on the wrong command refused': answers(
    'writable',
    { command: CMD.TRIM, flags: CMD_FLAG.NO_HOLE, length: 512 },
    ERRNO.EINVAL,
  ),
  'unknown command refused, the connection serves on': ({ writable }) =>
    holds(() =>
      inTransmission(writable, async (client) => {
        const { errno } = await client.request({ command: 99, length: 512 });
        return errno === ERRNO.EINVAL && (await client.read(0, 512)).errno === 0;
      }),
    ),
  'EPERM on a read-only export': answers(
    'readOnly',
    { command: CMD.WRITE, payload: Buffer.alloc(512) },
    ERRNO.EPERM,
  ),
  'ENOSPC past the end': answers(
    'writable',
    { command: CMD.WRITE, offset: SIZE_BYTES, payload: Buffer.alloc(512) },
    ERRNO.ENOSPC,
  ),
  'text with a failed READ': ({ writable }) =>
    holds(() =>
      inTransmission(
        writable,
        async (client) => ((await client.read(SIZE_BYTES, 512)).message ?? '') !== '',
      ),
    ),
  'a READ beyond the longest payload refused without ENOMEM': ({ writable }) =>
    holds(() =>
      inTransmission(writable, async (client) => {
        const { errno } = await client.read(0, 2 ** 32 - 1);
        return errno === ERRNO.EINVAL || errno === ERRNO.EOVERFLOW;
      }),
    ),
  'replies to what came before DISC': ({ writable }) =>
    holds(() =>
      inTransmission(writable, async (client) => {
        const reply = client.read(0, 4096);
        await client.disconnect();
        return (await reply).errno === 0;
      }),
    ),
};

const servesInTls = (place: Place): Promise<boolean> =>
  holds(() => inTransmission(place, async (client) => (await client.read(0, 512)).errno === 0));

export const TLS_PROBES: Readonly<Record<string, Probe<TlsTarget>>> = {
  'TLS with X.509': ({ certificate }) => servesInTls(certificate),
  'TLS with pre-shared keys': ({ key }) => servesInTls(key),
  'a client without certificate refused': async ({ certificate }) => {
    const tls = { ...certificate.tls };
    delete tls.cert;
    delete tls.key;
    return !(await servesInTls({ ...certificate, tls }));
  },
};

// SPDX-License-Identifier: Apache-2.0
import { join } from 'node:path';
import { test } from 'tap';
import { parseConfig } from '../../src/config/config.js';
import { Reloader, type ReloaderOptions } from '../../src/daemon/reload.js';

const CALLER = { uid: 7, pid: 42 };
const BEFORE = `
[nbd.certificate]
cert_file = "/cert"
key_file = "/key"
[identity.prod]
kind = "azure-cli"
[vault]
proxy = "http://one:1"
`;

/** A daemon of which only that is there which a reload touches; `done` is what was put in force. */
class World {
  readonly done: string[] = [];
  readonly alarms = new Map<string, string>();
  text = BEFORE;
  tlsFails = false;
  readonly reloader: Reloader;

  constructor(setIdentity = 'prod') {
    const options = {
      config: parseConfig(BEFORE, '/c'),
      readConfig: () => Promise.resolve().then(() => parseConfig(this.text, '/c')),
      plane: {
        loadTls: () => {
          if (this.tlsFails) throw new Error('no such file');
          this.done.push('tls');
        },
      },
      vault: { reconfigure: () => void this.done.push('vault') },
      anchors: { reconfigure: () => void this.done.push('anchors') },
      sets: { list: () => [{ name: 's1', record: { identity: setIdentity } }] },
      alarms: {
        raise: (name: string, message: string) => void this.alarms.set(name, message),
        clear: (name: string) => void this.alarms.delete(name),
      },
      trail: {
        record: (kind: string, fields: object) => {
          this.done.push(`${kind} ${JSON.stringify(fields)}`);
          return Promise.resolve();
        },
      },
    };
    this.reloader = new Reloader(options as unknown as ReloaderOptions);
  }
}

void test('without a change only the files of TLS are read anew', async (t) => {
  const world = new World();
  const { files, changed } = await world.reloader.reload(CALLER);
  t.same(changed, []);
  t.same(
    files.map(({ path }) => path),
    ['/cert', '/key'],
  );
  t.same(world.done, ['tls']);
});

void test('a live key is in force, and the record names it without its value', async (t) => {
  const world = new World();
  world.text = BEFORE.replace('http://one:1', 'http://user:hunter2@two:2');
  t.same((await world.reloader.reload(CALLER)).changed, ['vault.proxy']);
  const record = 'config-reloaded {"changed":["vault.proxy"],"uid":7,"pid":42}';
  t.same(world.done, ['tls', 'vault', record]);
  t.equal(world.reloader.config.vault.proxy, 'http://user:hunter2@two:2');
});

void test('anchors are told of their part alone', async (t) => {
  const world = new World();
  world.text = `${BEFORE}[audit]\nanchor_interval = "1m"\n`;
  t.same((await world.reloader.reload(CALLER)).changed, ['audit.anchor_interval']);
  t.same(world.done.slice(0, 2), ['tls', 'anchors']);
});

void test('what was reloaded is what the next reload compares with', async (t) => {
  const world = new World();
  world.text = BEFORE.replace('one', 'two');
  await world.reloader.reload(CALLER);
  t.same((await world.reloader.reload(CALLER)).changed, []);
});

const refused: ReadonlyArray<readonly [string, (world: World) => void, object]> = [
  [
    'a key that needs a restart, which takes the live ones with it',
    (world) => (world.text = `state_dir = "/s"\n${BEFORE.replace('one', 'two')}`),
    {
      code: 'ERR_RELOAD_RESTART',
      message:
        'reloading config /c: state_dir cannot change while the daemon runs; ' +
        'vault.proxy could, and waits with the others',
      fields: { path: '/c', restart: ['state_dir'], live: ['vault.proxy'] },
    },
  ],
  [
    'a config with an unknown key',
    (world) => (world.text = 'stat_dir = "/s"'),
    { code: 'ERR_CONFIG_INVALID' },
  ],
  ['a config that is no TOML', (world) => (world.text = '[vault'), { code: 'ERR_CONFIG_SYNTAX' }],
  [
    'the loss of an identity that a set uses',
    (world) => (world.text = BEFORE.replace('identity.prod', 'identity.other')),
    { code: 'ERR_RELOAD_IDENTITY', message: /expected identity prod.*set s1 uses, found other$/ },
  ],
  [
    'a CA file that is not there',
    (world) => (world.text = `${BEFORE}ca_file = "${join('/', 'nonexistent')}"\n`),
    { code: 'ERR_VAULT_CA_FILE' },
  ],
  [
    'a certificate that cannot be used',
    (world) => {
      world.text = BEFORE.replace('one', 'two');
      world.tlsFails = true;
    },
    { message: 'no such file' },
  ],
];
for (const [what, prepare, error] of refused) {
  void test(`changes nothing: ${what}`, async (t) => {
    const world = new World();
    const before = world.reloader.config;
    prepare(world);
    const found: unknown = await world.reloader.reload(CALLER).catch((thrown: unknown) => thrown);
    t.type(found, Error);
    t.match(found, error);
    t.same(world.done, []);
    t.equal(world.reloader.config, before);
    t.equal(world.alarms.size, 1);
    world.text = BEFORE;
    world.tlsFails = false;
    await t.resolves(world.reloader.reload(CALLER));
    t.equal(world.alarms.size, 0, 'the next success clears the alarm');
  });
}

void test('a set whose identity was missing already does not keep a reload back', async (t) => {
  const world = new World('gone');
  world.text = BEFORE.replace('one', 'two');
  await t.resolves(world.reloader.reload(CALLER));
});

void test('two reloads at a time are done one after the other', async (t) => {
  const world = new World();
  world.text = BEFORE.replace('one', 'two');
  const [first, second] = await Promise.all([
    world.reloader.reload(CALLER),
    world.reloader.reload(CALLER),
  ]);
  t.same([first.changed, second.changed], [['vault.proxy'], []]);
});

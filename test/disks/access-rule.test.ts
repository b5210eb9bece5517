// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { test } from 'tap';
import {
  ACCESS_RULE_BYTES_MAX,
  type AccessRule,
  formatAccessRule,
  parseAccessRule,
} from '../../src/disks/access-rule.js';

/** What a rule is spelled as, or the message of its refusal. */
function spelled(text: string): string {
  return formatAccessRule(parseAccessRule(text));
}

void test('every condition is read', (t) => {
  t.same(parseAccessRule('uid=1000 and gid=100 and pid=42'), { uid: 1000, gid: 100, pid: 42 });
  t.same(parseAccessRule('san=DNS:vm1.example and cidr=10.0.0.0/8'), {
    san: 'DNS:vm1.example',
    cidr: '10.0.0.0/8',
  });
  t.same(parseAccessRule('subject="CN=vm 1,O=Salt and Pepper"'), {
    subject: 'CN=vm 1,O=Salt and Pepper',
  });
  t.same(parseAccessRule('psk=backup'), { psk: 'backup' });
  t.end();
});

void test('a rule has one spelling', (t) => {
  t.equal(
    spelled('  cidr=10.1.2.3   and\tsan=URI:spiffe://a/b '.replace('\t', ' ')),
    'san=URI:spiffe://a/b and cidr=10.1.2.3/32',
  );
  t.equal(spelled('san=IP:2001:DB8:0::1'), 'san=IP:2001:db8::1');
  t.equal(spelled('psk="plain"'), 'psk=plain');
  t.equal(spelled('cidr=::ffff:10.0.0.0/104'), 'cidr=10.0.0.0/8');
  t.end();
});

void test('a backslash of RFC 2253 is a backslash', (t) => {
  t.same(parseAccessRule('subject=CN=a\\,b'), { subject: 'CN=a\\,b' });
  t.same(parseAccessRule('subject="CN=a\\\\,b c"'), { subject: 'CN=a\\,b c' });
  t.end();
});

const REFUSED: ReadonlyArray<readonly [string, RegExp]> = [
  ['', /expected a condition such as uid=1000 or cidr=10\.0\.0\.0\/8, got nothing/],
  ['   ', /got nothing/],
  ['uid', /expected a condition such as .*, got "uid"/],
  ['uid=', /condition uid: expected a value, .*, got nothing/],
  ['=1', /expected a condition such as/],
  ['uid=root', /condition uid: expected a whole number from 0 to 4294967294, got "root"/],
  ['uid=-1', /condition uid: expected a whole number/],
  ['uid=4294967295', /condition uid: .* 4294967294, got "4294967295"/],
  ['uid=01', /condition uid: .*, got "01"/],
  ['uid=1.5', /condition uid/],
  ['uid=1e3', /condition uid/],
  ['gid=0x10', /condition gid/],
  ['pid=0', /condition pid: expected a whole number from 1 to 4194304, got "0"/],
  ['uid=1 uid=2', /expected "and" after condition uid, .* got "uid=2"/],
  ['uid=1 and uid=2', /condition uid stands twice/],
  ['uid=1 and', /got nothing/],
  ['uid=1 and and gid=1', /got "and gid=1"/],
  ['uid=1 AND gid=1', /expected "and" after condition uid/],
  ['uid=1, gid=1', /condition uid: .*got "1,"/],
  ['uid=1 or uid=2', /expected "and" after condition uid, .*got "or uid=2"/],
  ['udi=1', /there is no condition "udi", expected uid/],
  ['user=alice', /there is no condition "user", expected one of uid, gid, pid, subject/],
  ['UID=1', /there is no condition "UID", expected uid/],
  ['constructor=1', /there is no condition "constructor"/],
  ['__proto__=1', /there is no condition "__proto__"/],
  [
    'subject=vm1',
    /condition subject: expected an RFC 2253 name such as CN=vm1,O=Example, got "vm1"/,
  ],
  ['subject=/CN=vm1', /condition subject: expected an RFC 2253 name/],
  ['subject="CN = vm1"', /condition subject: expected an RFC 2253 name/],
  ['subject=CN=Example Corp', /after condition subject, or quotes around it, got "Corp"/],
  ['subject="CN=vm1', /condition subject: expected a value, in double quotes/],
  ['subject="CN=vm1"x', /condition subject: expected a value/],
  ['subject="CN=\\a"', /condition subject: expected a value/],
  ['san=vm1.example', /condition san: expected a type and a name such as DNS:vm1\.example/],
  ['san=dns:vm1.example', /condition san: expected a type/],
  ['san=DNS:', /condition san: expected a type and a name/],
  ['san=DNS:*.example', /condition san: expected a whole name, since wildcards match nothing/],
  ['san=IP:10.0.0.0/8', /condition san: expected an IPv4 or IPv6 address after IP:/],
  ['psk=""', /condition psk: expected the identity of a pre-shared key, got nothing/],
  ['cidr=10.0.0.1/8', /condition cidr: expected zeros after the first 8 bits/],
  ['cidr=10.0.0.0/33', /condition cidr: expected a prefix of 0 to 32 bits, got "33"/],
  ['cidr=example.com', /condition cidr: expected an IPv4 or IPv6 network/],
  ['uid=1 and cidr=10.0.0.0/8', /uid and cidr never hold together: .*unix sockets.*TCP/],
  ['san=DNS:a and psk=b', /san and psk never hold together/],
  ['psk=a\u0000b', /expected text without control characters/],
  ['psk=a\u001b[2J', /expected text without control characters/],
  ['psk=\u202eevil', /expected text without control characters/],
  [`psk=${'a'.repeat(ACCESS_RULE_BYTES_MAX)}`, /at most 512 bytes, got 516/],
];

for (const [text, says] of REFUSED) {
  void test(`the rule ${JSON.stringify(text.slice(0, 60))} is refused`, (t) => {
    t.throws(() => parseAccessRule(text), { code: 'ERR_ACCESS_RULE', message: says });
    t.end();
  });
}

const printable = fc
  .string({
    unit: fc.constantFrom(...Array.from('abcXYZ019 ."\\=,;:+#é€😀-_/')),
    minLength: 1,
    maxLength: 40,
  })
  .filter((text) => Buffer.byteLength(text) < 100);
const optional = <T>(values: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(values, { nil: undefined });
const certificate = fc.record({
  subject: optional(printable.map((text) => `CN=x${text}`)),
  san: optional(printable.map((text) => `URI:${text}`)),
});
const unixPart = fc.record({
  uid: optional(fc.integer({ min: 0, max: 0xffff_fffe })),
  gid: optional(fc.integer({ min: 0, max: 0xffff_fffe })),
  pid: optional(fc.integer({ min: 1, max: 2 ** 22 })),
});
const tcpPart = fc.record({ cidr: optional(fc.nat(32).map((bits) => `0.0.0.0/${String(bits)}`)) });
const anyRule = fc
  .tuple(
    fc.oneof(unixPart, tcpPart),
    fc.oneof(certificate, fc.record({ psk: optional(printable) })),
  )
  .map(
    ([where, who]) =>
      Object.fromEntries(
        Object.entries({ ...where, ...who }).filter(([, value]) => value !== undefined),
      ) as AccessRule,
  )
  .filter((rule) => Object.keys(rule).length > 0);

void test('property: a rule that was printed is read as the same rule', (t) => {
  fc.assert(
    fc.property(anyRule, (rule) => {
      t.same(parseAccessRule(formatAccessRule(rule)), rule);
    }),
  );
  t.end();
});

void test('property: any text is read or refused, and what was read is spelled stably', (t) => {
  const pieces = fc.constantFrom(
    ...['uid', 'cidr', 'psk', 'subject', '=', '"', '\\', ' ', 'and', '1', '10.0.0.0/8', 'CN=', 'x'],
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(pieces, { maxLength: 12 }).map((all) => all.join('')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      let first: string;
      try {
        first = spelled(text);
      } catch (error) {
        return (error as { code?: string }).code === 'ERR_ACCESS_RULE';
      }
      return spelled(first) === first;
    }),
    { numRuns: 1000 },
  );
  t.end();
});

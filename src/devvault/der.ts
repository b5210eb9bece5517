// SPDX-License-Identifier: Apache-2.0

/*
 * The few constructions of DER (ITU-T X.690) that an X.509 certificate is made of. Node can parse
 * and check certificates but not build them, and a fresh machine need not have the openssl program.
 */

const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** One tag-length-value; also for context-specific tags such as 0xa0. */
export function encodeTlv(tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  return Buffer.concat([Buffer.from([tag]), encodeLength(body.length), body]);
}

function encodeLength(lengthBytes: number): Buffer {
  if (lengthBytes < 0x80) return Buffer.from([lengthBytes]);
  const digits: number[] = [];
  for (let rest = lengthBytes; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return Buffer.from([0x80 | digits.length, ...digits]);
}

export function encodeSequence(...items: Uint8Array[]): Buffer {
  return encodeTlv(TAG.sequence, ...items);
}

export function encodeSet(...items: Uint8Array[]): Buffer {
  return encodeTlv(TAG.set, ...items);
}

export function encodeTrue(): Buffer {
  return encodeTlv(TAG.boolean, Buffer.from([0xff]));
}

/**
 * A non-negative integer from big-endian bytes: shortest form, with a zero byte if the top bit is
 * set.
 */
export function encodeUnsigned(bigEndian: Uint8Array): Buffer {
  let start = 0;
  while (start < bigEndian.length - 1 && bigEndian[start] === 0) start += 1;
  const digits = bigEndian.subarray(start);
  const isNegative = ((digits[0] ?? 0) & 0x80) !== 0;
  return encodeTlv(TAG.integer, Buffer.from(isNegative ? [0] : []), digits);
}

export function encodeBitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return encodeTlv(TAG.bitString, Buffer.from([unusedBits]), bytes);
}

export function encodeOctetString(...contents: Uint8Array[]): Buffer {
  return encodeTlv(TAG.octetString, ...contents);
}

export function encodeUtf8(text: string): Buffer {
  return encodeTlv(TAG.utf8String, Buffer.from(text, 'utf8'));
}

/** `1.2.840.10045.4.3.2`; the first two arcs share one number. */
export function encodeObjectIdentifier(dotted: string): Buffer {
  const [first = 0, second = 0, ...others] = dotted.split('.').map(Number);
  const bytes = [first * 40 + second, ...others].flatMap((arc) => {
    const digits = [arc % 128];
    for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) {
      digits.unshift(0x80 | (rest % 128));
    }
    return digits;
  });
  return encodeTlv(TAG.objectIdentifier, Buffer.from(bytes));
}

/** RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from then on. */
export function encodeTime(date: Date): Buffer {
  const digits = `${date.toISOString().replace(/\D/g, '').slice(0, 14)}Z`;
  return date.getUTCFullYear() < 2050
    ? encodeTlv(TAG.utcTime, Buffer.from(digits.slice(2), 'ascii'))
    : encodeTlv(TAG.generalizedTime, Buffer.from(digits, 'ascii'));
}

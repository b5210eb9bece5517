// SPDX-License-Identifier: Apache-2.0
import { REPLY_ERROR, STRING_BYTES_MAX } from './protocol.js';
import type { ReplyError } from './protocol.js';
import { decodeName, printable } from './text.js';

/** Why the data of an option is refused. */
export interface PayloadError {
  readonly error: ReplyError;
  readonly text: string;
}

export function invalid(text: string): PayloadError {
  return { error: REPLY_ERROR.INVALID, text };
}

export function viewOf(payload: Uint8Array): Buffer {
  return Buffer.from(payload.buffer, payload.byteOffset, payload.length);
}

/**
 * The name that data begins with (u32 length, name), when at least `tailBytesMin` bytes follow it.
 * Lengths are compared with what is there, never added up (CVE-2022-26495, -26496).
 */
export function findName(
  data: Buffer,
  { tailBytesMin }: { readonly tailBytesMin: number },
): { readonly nameBytes: Buffer; readonly endBytes: number } | PayloadError {
  const bytesMin = 4 + tailBytesMin;
  if (data.length < bytesMin) {
    return invalid(`has ${data.length} bytes of data, expected at least ${bytesMin}`);
  }
  const length = data.readUInt32BE(0);
  if (length > data.length - bytesMin) {
    return invalid(`name length is ${length}, room is for ${data.length - bytesMin}`);
  }
  return { nameBytes: data.subarray(4, 4 + length), endBytes: 4 + length };
}

/** A name as a string; for after the data's lengths have added up. */
export function decodeNameField(nameBytes: Buffer): string | PayloadError {
  if (nameBytes.length > STRING_BYTES_MAX) {
    const text = `name length is ${nameBytes.length}, expected at most ${STRING_BYTES_MAX}`;
    return { error: REPLY_ERROR.TOO_BIG, text };
  }
  const name = decodeName(nameBytes);
  if (name !== undefined) return name;
  return invalid(`name ${printable(nameBytes.toString('latin1'))} is not UTF-8 without zero bytes`);
}

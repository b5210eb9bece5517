// SPDX-License-Identifier: Apache-2.0
import type { Agreement } from './agreement.js';
import type { ExportInfo } from './exports.js';
import { transmissionFlags } from './exports.js';
import {
  EXPORT_NAME_ZEROES_BYTES,
  FLAG_FIXED_NEWSTYLE,
  FLAG_NO_ZEROES,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPTION_REPLY_MAGIC,
  PAYLOAD_BYTES_MAX,
  PREFERRED_BLOCK_BYTES,
  STRING_BYTES_MAX,
} from './protocol.js';

/** The server's first bytes: magic, IHAVEOPT, handshake flags. */
export function encodeHello(): Uint8Array {
  const bytes = Buffer.alloc(18);
  bytes.writeBigUInt64BE(NBDMAGIC, 0);
  bytes.writeBigUInt64BE(IHAVEOPT, 8);
  bytes.writeUInt16BE(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, 16);
  return bytes;
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(20 + data.length);
  bytes.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  bytes.writeUInt32BE(data.length, 16);
  bytes.set(data, 20);
  return bytes;
}

/** Data of REP_SERVER: u32 name length, name, description. */
export function encodeServerData(name: string, description: string): Uint8Array {
  const nameBytes = encodeString(name);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(nameBytes.length, 0);
  return Buffer.concat([length, nameBytes, encodeString(description)]);
}

/** Data of REP_META_CONTEXT: u32 id, name. */
export function encodeMetaContextData(id: number, name: string): Uint8Array {
  const idBytes = Buffer.alloc(4);
  idBytes.writeUInt32BE(id, 0);
  return Buffer.concat([idBytes, encodeString(name)]);
}

/** The answer to EXPORT_NAME: u64 size, u16 flags, and 124 zero bytes unless agreed otherwise. */
export function encodeExportNameReply(
  info: ExportInfo,
  connection: { readonly agreed: Agreement; readonly noZeroes: boolean },
): Uint8Array {
  const bytes = Buffer.alloc(10 + (connection.noZeroes ? 0 : EXPORT_NAME_ZEROES_BYTES));
  bytes.writeBigUInt64BE(BigInt(info.sizeBytes), 0);
  bytes.writeUInt16BE(transmissionFlags(info, connection.agreed), 8);
  return bytes;
}

/** Data of the REP_INFO items for INFO and GO: the export always, the others if asked for. */
export function encodeInfoItems(
  info: ExportInfo,
  requested: ReadonlySet<number>,
  agreed: Agreement,
): Uint8Array[] {
  const exportItem = Buffer.alloc(12);
  exportItem.writeUInt16BE(INFO.EXPORT, 0);
  exportItem.writeBigUInt64BE(BigInt(info.sizeBytes), 2);
  exportItem.writeUInt16BE(transmissionFlags(info, agreed), 10);
  const items: Uint8Array[] = [exportItem];
  if (requested.has(INFO.NAME)) items.push(encodeStringItem(INFO.NAME, info.name));
  if (requested.has(INFO.DESCRIPTION)) {
    items.push(encodeStringItem(INFO.DESCRIPTION, info.description));
  }
  if (requested.has(INFO.BLOCK_SIZE)) items.push(encodeBlockSizeItem(info));
  return items;
}

function encodeBlockSizeItem(info: ExportInfo): Uint8Array {
  const item = Buffer.alloc(14);
  item.writeUInt16BE(INFO.BLOCK_SIZE, 0);
  item.writeUInt32BE(info.sectorSizeBytes, 2);
  item.writeUInt32BE(PREFERRED_BLOCK_BYTES, 6);
  item.writeUInt32BE(PAYLOAD_BYTES_MAX, 10);
  return item;
}

function encodeStringItem(type: number, text: string): Uint8Array {
  const head = Buffer.alloc(2);
  head.writeUInt16BE(type, 0);
  return Buffer.concat([head, encodeString(text)]);
}

/** Our own strings are short; a longer one would make clients drop the connection. */
function encodeString(text: string): Uint8Array {
  const bytes = Buffer.from(text);
  if (bytes.length <= STRING_BYTES_MAX) return bytes;
  throw new Error(`NBD string is ${bytes.length} bytes, expected at most ${STRING_BYTES_MAX}`);
}

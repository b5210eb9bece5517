// SPDX-License-Identifier: Apache-2.0
import { TRANSMISSION_FLAG } from './protocol.js';

/** What a client is told of a disk that it may use. */
export interface ExportInfo {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  readonly sectorSizeBytes: 512 | 4096;
  readonly readOnly: boolean;
  /** A hint that seeking is slow. */
  readonly rotational: boolean;
}

/** Why an export is not given; `text` is for people and names the reason. */
export interface ExportRefusal {
  readonly refused: 'unknown' | 'offline';
  readonly text: string;
}

/**
 * The exports as one client sees them. Asking costs nothing and tells the disks nothing: no store
 * is opened and no vault is called before a client has chosen an export (CVE-2019-14850).
 */
export interface ExportDirectory {
  /** Only what `find` would give: offline disks and disks of others are hidden. */
  list(): readonly { readonly name: string; readonly description: string }[];
  /** By the disk's exact name; the empty name never gets here. */
  find(name: string): ExportInfo | ExportRefusal;
}

/** The transmission flags: what the data plane does with this export on this connection. */
export function transmissionFlags(
  info: ExportInfo,
  connection: { readonly structuredReplies: boolean },
): number {
  const always =
    TRANSMISSION_FLAG.HAS_FLAGS |
    TRANSMISSION_FLAG.SEND_FLUSH |
    TRANSMISSION_FLAG.SEND_FUA |
    TRANSMISSION_FLAG.CAN_MULTI_CONN;
  const writing = info.readOnly
    ? TRANSMISSION_FLAG.READ_ONLY
    : TRANSMISSION_FLAG.SEND_TRIM | TRANSMISSION_FLAG.SEND_WRITE_ZEROES;
  return always | writing | (connection.structuredReplies ? TRANSMISSION_FLAG.SEND_DF : 0);
}

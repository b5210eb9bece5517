// SPDX-License-Identifier: Apache-2.0
import { type Agreement, allocationContextId, replyKind } from './agreement.js';
import { quoteName } from '../base/names.js';
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

/** `directory` for a client that is to see one export of it, which is its default then. */
export function onlyExport(directory: ExportDirectory, name: string): ExportDirectory {
  return {
    list: () => directory.list().filter((info) => info.name === name),
    find(asked) {
      if (asked === name) return directory.find(name);
      const text = `no export ${quoteName(asked)}: this connection serves ${quoteName(name)}`;
      return { refused: 'unknown', text };
    },
  };
}

/** The transmission flags: what the data plane does with this export on this connection. */
export function transmissionFlags(info: ExportInfo, agreed: Agreement): number {
  const {
    HAS_FLAGS,
    READ_ONLY,
    SEND_FLUSH,
    SEND_FUA,
    ROTATIONAL,
    SEND_TRIM,
    SEND_WRITE_ZEROES,
    SEND_DF,
    CAN_MULTI_CONN,
    SEND_CACHE,
    SEND_FAST_ZERO,
    BLOCK_STATUS_PAYLOAD,
  } = TRANSMISSION_FLAG;
  const filtersStatus = agreed.extendedHeaders && allocationContextId(agreed, info.name) !== null;
  return (
    HAS_FLAGS |
    SEND_FLUSH |
    SEND_FUA |
    CAN_MULTI_CONN |
    SEND_CACHE |
    (info.readOnly ? READ_ONLY : SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO) |
    (info.rotational ? ROTATIONAL : 0) |
    (replyKind(agreed) === 'simple' ? 0 : SEND_DF) |
    (filtersStatus ? BLOCK_STATUS_PAYLOAD : 0)
  );
}

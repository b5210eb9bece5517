// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import {
  DATA_OFFSET_BYTES,
  HEADER_BYTES,
  PRIMARY_OFFSET_BYTES,
  SECONDARY_OFFSET_BYTES,
} from '../luks2/layout.js';
import type { OuterCipher } from './ports.js';

export type CopyName = 'primary' | 'secondary';

/** Where a container's two header copies lie, and what lies over them. */
export interface HeaderRegion {
  /** Both copies, as far as the store goes. */
  read(): Promise<{ primary: Uint8Array; secondary: Uint8Array }>;
  /** Writes one copy and makes it durable. */
  write(copy: CopyName, bytes: Uint8Array): Promise<void>;
}

const COPY_OFFSET_BYTES = {
  primary: PRIMARY_OFFSET_BYTES,
  secondary: SECONDARY_OFFSET_BYTES,
};

/** The header at the beginning of the store. */
export function plainRegion(file: FileHandle): HeaderRegion {
  return {
    read: async () => copiesOf(await readFully(file, 2 * HEADER_BYTES, 0)),
    write: (copy, bytes) => writeDurably(file, bytes, COPY_OFFSET_BYTES[copy]),
  };
}

/**
 * The inner container's header: encrypted like the outer container's data, at whose beginning it
 * lies (docs/KEYS.md section 4). A copy that is cut short reads as missing.
 */
export function innerRegion(file: FileHandle, cipher: OuterCipher): HeaderRegion {
  return {
    read: async () => {
      const bytes = await readFully(file, 2 * HEADER_BYTES, DATA_OFFSET_BYTES);
      const wholeBytes = bytes.length - (bytes.length % HEADER_BYTES);
      return copiesOf(cipher.decrypt(bytes.subarray(0, wholeBytes), 0));
    },
    write: (copy, bytes) => {
      const offsetBytes = COPY_OFFSET_BYTES[copy];
      const encrypted = cipher.encrypt(bytes, offsetBytes);
      return writeDurably(file, encrypted, DATA_OFFSET_BYTES + offsetBytes);
    },
  };
}

function copiesOf(bytes: Uint8Array): {
  primary: Uint8Array;
  secondary: Uint8Array;
} {
  return {
    primary: bytes.subarray(0, HEADER_BYTES),
    secondary: bytes.subarray(HEADER_BYTES),
  };
}

/** As many bytes as there are, up to `lengthBytes`. */
async function readFully(
  file: FileHandle,
  lengthBytes: number,
  fromBytes: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(lengthBytes);
  let doneBytes = 0;
  while (doneBytes < lengthBytes) {
    const { bytesRead } = await file.read(
      bytes,
      doneBytes,
      lengthBytes - doneBytes,
      fromBytes + doneBytes,
    );
    if (bytesRead === 0) break;
    doneBytes += bytesRead;
  }
  return bytes.subarray(0, doneBytes);
}

async function writeDurably(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  let doneBytes = 0;
  while (doneBytes < bytes.length) {
    const { bytesWritten } = await file.write(
      bytes,
      doneBytes,
      bytes.length - doneBytes,
      offset + doneBytes,
    );
    doneBytes += bytesWritten;
  }
  await file.sync();
}

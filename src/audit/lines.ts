// SPDX-License-Identifier: Apache-2.0
import type { FileHandle } from 'node:fs/promises';
import { RECORD_BYTES_MAX } from './record.js';

export interface LogLine {
  /** Without its newline. */
  readonly bytes: Buffer;
  /** False for what a crash cut short at the end, and for pieces of a line that is too long. */
  readonly whole: boolean;
}

const READ_BYTES = 256 * 1024;
/** A record, and the comma that follows it in an export. */
const LINE_BYTES_MAX = RECORD_BYTES_MAX + 1;

/**
 * The lines of a file up to `endBytes`, some at a time, in constant memory: a line that is longer
 * than a record may be comes in pieces.
 */
export async function* readLogLines(file: FileHandle, endBytes: number): AsyncGenerator<LogLine[]> {
  yield* splitLines(readChunks(file, endBytes));
}

async function* readChunks(file: FileHandle, endBytes: number): AsyncGenerator<Buffer> {
  for (let offsetBytes = 0; offsetBytes < endBytes;) {
    const buffer = Buffer.alloc(Math.min(READ_BYTES, endBytes - offsetBytes));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offsetBytes);
    if (bytesRead === 0) return;
    offsetBytes += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** As readLogLines, of chunks that come from anywhere. */
export async function* splitLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<LogLine[]> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const lines: LogLine[] = [];
    let from = 0;
    const all = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let end = all.indexOf(0x0a); end >= 0; end = all.indexOf(0x0a, from)) {
      lines.push({ bytes: all.subarray(from, end), whole: true });
      from = end + 1;
    }
    rest = all.subarray(from);
    if (rest.length > LINE_BYTES_MAX) {
      lines.push({ bytes: rest, whole: false });
      rest = Buffer.alloc(0);
    }
    yield lines;
  }
  if (rest.length > 0) yield [{ bytes: rest, whole: false }];
}

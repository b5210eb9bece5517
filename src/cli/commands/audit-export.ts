// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import { createReadStream } from 'node:fs';
import { auditExportSchema } from '../../admin/api-audit.js';
import { writeStreamAtomic } from '../../base/atomic-stream.js';
import { codeOf, KeyholdError, messageOf } from '../../base/errors.js';
import { type CliContext, isJson, print, printJson, printNext } from '../context.js';
import { codes } from '../errors.js';
import { EXIT_CODES } from '../exit-codes.js';
import { shellQuote } from '../paths.js';
import { plain } from '../text.js';

/** Whoever may read the log may read this, and nobody else. */
const FILE_MODE = 0o600;
/** The head holds names and hashes. */
const HEAD_BYTES_MAX = 64 * 1024;

const headSchema = auditExportSchema.pick({ chain: true, first: true, last: true });

/** Writes an export as it comes, to standard output or to a file, and says what its head says. */
export async function exportTo(
  context: CliContext,
  command: Command,
  pieces: AsyncIterable<Buffer>,
  output: string | undefined,
): Promise<void> {
  const head = new HeadReader();
  const { stdout } = context.io;
  if (output === undefined) {
    for await (const piece of pieces) {
      head.look(piece);
      stdout.write(head.text(piece));
      await stdout.drained();
      if (stdout.closed.aborted) break;
    }
  } else {
    await writeFile(output, pieces, head);
  }
  const { chain, first, last } = head.read();
  if (!chain.ok) {
    context.exitCode = EXIT_CODES.integrity;
    const { line, expected, actual } = chain.firstBad ?? { line: 0, expected: '', actual: '' };
    const what = `line ${line}: expected ${plain(expected)}, got ${plain(actual)}`;
    context.io.stderr.write(`keyhold: warning: the audit log is NOT sound: ${what}\n`);
  }
  if (output === undefined) return;
  if (isJson(command)) {
    printJson(context, { output, chain, first, last });
    return;
  }
  const range =
    first === null || last === null ? 'no records' : `records ${first.seq} to ${last.seq}`;
  print(context, `${plain(output)}: ${range}, the log is ${chain.ok ? 'sound' : 'NOT sound'}\n`);
  printNext(context, `keyhold audit verify ${shellQuote(output)}`);
}

async function writeFile(
  output: string,
  pieces: AsyncIterable<Buffer>,
  head: HeadReader,
): Promise<void> {
  try {
    await writeStreamAtomic(output, pieces, {
      mode: FILE_MODE,
      inspect: (piece) => head.look(piece),
    });
  } catch (error) {
    if (error instanceof KeyholdError) throw error;
    throw new KeyholdError(
      codes.ERR_CLI_OUTPUT,
      `cannot write ${output}: ${codeOf(error) ?? messageOf(error)}`,
      { fields: { path: output }, cause: error },
    );
  }
}

/** Keeps the first line of an export, which stands before the records, while it passes. */
class HeadReader {
  #bytes = Buffer.alloc(0);
  #whole = false;
  readonly #decoder = new TextDecoder();

  look(piece: Uint8Array): void {
    if (this.#whole || this.#bytes.length > HEAD_BYTES_MAX) return;
    const all = Buffer.concat([this.#bytes, piece]);
    const end = all.indexOf(0x0a);
    this.#whole = end >= 0;
    this.#bytes = end < 0 ? all : all.subarray(0, end);
  }

  /** A character may be cut by the border of two pieces. */
  text(piece: Uint8Array): string {
    return this.#decoder.decode(piece, { stream: true });
  }

  read(): ReturnType<typeof headSchema.parse> {
    try {
      return headSchema.parse(JSON.parse(`${this.#bytes.toString('utf8')}]}`));
    } catch (error) {
      throw new KeyholdError(
        codes.ERR_CLI_OUTPUT,
        'the export of the audit log does not begin with its head',
        { cause: error },
      );
    }
  }
}

/** A file that is read for `audit verify`; failures name it. */
export async function* readFileInPieces(path: string): AsyncGenerator<Buffer> {
  try {
    yield* createReadStream(path) as AsyncIterable<Buffer>;
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_CLI_INPUT,
      `cannot read ${path}: ${codeOf(error) ?? messageOf(error)}`,
      { fields: { path }, cause: error },
    );
  }
}

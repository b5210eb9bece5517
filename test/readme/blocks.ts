// SPDX-License-Identifier: Apache-2.0

/** How a block of shell commands is run; said by HTML comments before it, which no reader sees. */
export type Treatment =
  | { readonly kind: 'run'; readonly prints: readonly string[] }
  | { readonly kind: 'background'; readonly command: string; readonly until: string }
  | { readonly kind: 'skip'; readonly reason: string };

export interface Block {
  /** Of its opening fence, counted from 1. */
  readonly line: number;
  readonly text: string;
  readonly treatment: Treatment;
}

const COMMENT = /^<!-- readme: (.*) -->$/;

/**
 * The blocks marked `sh` of a page in Markdown, in order. A comment directly before a block says
 * something about it:
 *
 *     <!-- readme: skip: why it is not run -->
 *     <!-- readme: background "npm start" until "ready" -->
 *     <!-- readme: prints "some text" -->      (may stand several times)
 *
 * Without one a block is run and must succeed. Throws for a comment that it does not understand,
 * contradicts another, or belongs to no block.
 */
export function parseBlocks(page: string): Block[] {
  const lines = page.split('\n');
  const blocks: Block[] = [];
  let comments: string[] = [];
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? '';
    const comment = COMMENT.exec(line)?.[1];
    if (comment !== undefined) {
      comments.push(comment);
      continue;
    }
    const language = /^```(.*)$/.exec(line)?.[1];
    if (comments.length > 0 && language !== 'sh') {
      throw new Error(`line ${index}: expected a block of sh after ${comments.join(', ')}`);
    }
    if (language === undefined) continue;
    const end = lines.indexOf('```', index + 1);
    if (end === -1) throw new Error(`line ${index + 1}: a block without an end`);
    if (language === 'sh') {
      const text = `${lines.slice(index + 1, end).join('\n')}\n`;
      blocks.push({ line: index + 1, text, treatment: treatmentOf(comments, index) });
    }
    comments = [];
    index = end;
  }
  if (comments.length > 0) throw new Error(`no block after ${comments.join(', ')}`);
  return blocks;
}

function treatmentOf(comments: readonly string[], line: number): Treatment {
  const prints: string[] = [];
  const others: Treatment[] = [];
  for (const comment of comments) {
    const printed = /^prints "([^"]+)"$/.exec(comment)?.[1];
    const reason = /^skip: (\S.*)$/.exec(comment)?.[1];
    const [, command, until] = /^background "([^"]+)" until "([^"]+)"$/.exec(comment) ?? [];
    if (printed !== undefined) prints.push(printed);
    else if (reason !== undefined) others.push({ kind: 'skip', reason });
    else if (command !== undefined && until !== undefined)
      others.push({ kind: 'background', command, until });
    else throw new Error(`line ${line}: cannot read ${JSON.stringify(comment)}`);
  }
  const [only = { kind: 'run', prints }] = others;
  if (others.length > 1 || (others.length === 1 && prints.length > 0)) {
    throw new Error(`line ${line}: these contradict each other: ${comments.join(', ')}`);
  }
  return only;
}

/** For a shell: one word, whatever is in it. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** Functions of the session that runs the blocks. */
const PRELUDE = `set -eE
block= started=
exec 9>&2  # a block that fails leaves its own redirections behind
finish() {
  status=$?
  for group in $started; do kill -TERM -- "-$group" 2> /dev/null || true; done
  for group in $started; do
    for i in $(seq 100); do kill -0 -- "-$group" 2> /dev/null || break; sleep 0.1; done
    kill -KILL -- "-$group" 2> /dev/null || true
  done
  [ "$status" -eq 0 ] || { echo "failed with status $status: $block"; tail -n 40 "$LOGS"/*; } >&9
  exit "$status"
}
trap finish EXIT
begin() { block=$1; printf '\\n== %s\\n' "$block"; }
in_background() {
  : > "$LOGS/background"  # it is looked at before the background has opened it
  setsid sh -c "$1" > "$LOGS/background" 2>&1 < /dev/null &
  local process=$!
  disown "$process"  # or bash would report its end
  started="$started $process"
  until grep -qxF -- "$2" "$LOGS/background"; do
    kill -0 "$process" 2> /dev/null || { echo "$1 ended before it said $2" >&2; return 1; }
    sleep 0.2
  done
}
must_print() {
  grep -qF -- "$1" "$LOGS/block" || { echo "expected to be printed: $1" >&2; return 1; }
}
`;

/**
 * One bash session of all blocks, which ends with the first command that fails and says where. It
 * wants a directory in $LOGS. `replace` says what stands for what the page leaves open.
 */
export function scriptOf(
  page: string,
  blocks: readonly Block[],
  replace = new Map<string, string>(),
): string {
  const parts = blocks.flatMap(({ line, text, treatment }) => {
    let commands = text;
    for (const [found, by] of replace) commands = commands.replaceAll(found, by);
    const name = `${page}:${line}`;
    if (treatment.kind === 'skip')
      return [`begin ${quoted(`${name}, not run: ${treatment.reason}`)}`];
    const begin = `begin ${quoted(`${name}\n${text}`)}`;
    if (treatment.kind === 'background') {
      const { command, until } = treatment;
      const call = `in_background ${quoted(command)} ${quoted(until)}`;
      return [begin, commands.replace(command, () => call)];
    }
    const checks = treatment.prints.map((expected) => `must_print ${quoted(expected)}`);
    // In this shell, not in a part of a pipe: what a block sets and where it goes is kept.
    return [begin, `{\n${commands}} > "$LOGS/block" 2>&1\ncat "$LOGS/block"`, ...checks];
  });
  return [PRELUDE, ...parts, 'block=end', ''].join('\n');
}

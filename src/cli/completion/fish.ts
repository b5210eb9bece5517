// SPDX-License-Identifier: Apache-2.0
import { type CommandNode, flatten, type OptionNode, type ValueNode } from '../tree.js';
import { NAMES_COMMAND, pathText, spellings } from './walk.js';

/** For `keyhold completion fish | source`, or a file in ~/.config/fish/completions. */
export function fishCompletion(tree: CommandNode): string {
  const nodes = flatten(tree);
  const valued = nodes.flatMap((node) =>
    node.options
      .filter(({ value }) => value !== null)
      .flatMap((option) => spellings(option).map((text) => `${pathText(node)} ${text}`)),
  );
  const paths = nodes.map(pathText).filter((text) => text !== '');
  return `# fish completion for keyhold, made by \`keyhold completion fish\`
set -g __keyhold_paths ${paths.map(quote).join(' ')}
set -g __keyhold_valued ${valued.map(quote).join(' ')}
${WALK}
complete -c keyhold -f
${nodes.flatMap(linesOf).join('\n')}
`;
}

function linesOf(node: CommandNode): string[] {
  const at = (given?: number): string => {
    const index = given === undefined ? '' : ` ${given}`;
    return `complete -c keyhold -n ${quote(`__keyhold_at ${quote(pathText(node))}${index}`)}`;
  };
  const commands = node.commands.map(
    (child) => `${at()} -a ${quote(child.path.at(-1) ?? '')} -d ${firstLine(child.description)}`,
  );
  const options = node.options.map((option) => `${at()} ${optionText(option)}`);
  const values = node.arguments
    .map((value, index) => [value, index] as const)
    .filter(([{ kind, choices }]) => choices !== null || kind !== 'none')
    .map(([value, index]) => `${at(index)}${fillText(value)}`);
  return [...commands, ...options, ...values];
}

function optionText({ long, short, description, value }: OptionNode): string {
  const names = [
    ...(short === null ? [] : [`-s ${short.slice(1)}`]),
    ...(long === '' ? [] : [`-l ${long.slice(2)}`]),
  ].join(' ');
  // A value that is no file keeps fish from offering files.
  const isFile = value?.kind === 'file' && value.choices === null;
  const required = value === null ? '' : ` ${isFile ? '-r' : '-x'}${fillText(value)}`;
  return `${names}${required} -d ${firstLine(description)}`;
}

function fillText({ kind, choices }: ValueNode): string {
  if (choices !== null) return ` -a ${quote(choices.join(' '))}`;
  switch (kind) {
    case 'disk':
    case 'set':
      return ` -a ${quote(`(__keyhold_names ${kind})`)}`;
    case 'file':
      return ' -F';
    case 'directory':
      return ` -a ${quote('(__fish_complete_directories)')}`;
    case 'command':
      return ` -a ${quote('(__keyhold_help)')}`;
    case 'none':
      return '';
  }
}

function firstLine(text: string): string {
  return quote(text.split('\n')[0] ?? '');
}

/** In fish's single quotes a backslash escapes itself and the quote. */
function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

const WALK = `
# Sets the path of the command so far, how many arguments it has, and --socket if it was given.
function __keyhold_walk
    set -g __keyhold_path ''
    set -g __keyhold_given 0
    set -g __keyhold_socket
    set -l words (commandline -opc)
    set -e words[1]
    set -l skip ''
    for word in $words
        if test -n "$skip"
            test "$skip" = --socket; and set -g __keyhold_socket --socket $word
            set skip ''
        else if string match -q -- '-*' $word
            contains -- "$__keyhold_path $word" $__keyhold_valued; and set skip $word
        else if contains -- "$__keyhold_path $word" $__keyhold_paths
            set -g __keyhold_path "$__keyhold_path $word"
        else
            set -g __keyhold_given (math $__keyhold_given + 1)
        end
    end
end

function __keyhold_at
    __keyhold_walk
    test "$__keyhold_path" = "$argv[1]"; or return 1
    test (count $argv) -lt 2; or test $__keyhold_given = $argv[2]
end

function __keyhold_names
    __keyhold_walk
    set -l program (commandline -opc)[1]
    $program ${NAMES_COMMAND} $argv[1] $__keyhold_socket 2>/dev/null
end

# The first words of all commands: \`keyhold help\` takes them once more.
function __keyhold_help
    for path in $__keyhold_paths
        string match -rq '^ [^ ]+$' -- $path; and string trim -- $path
    end
end
`;

// SPDX-License-Identifier: Apache-2.0
import { type CommandNode, flatten } from '../tree.js';
import { kindText, NAMES_COMMAND, pathText, quote, spellings } from './walk.js';

/** For a file `_keyhold` in a directory of $fpath, or `source <(keyhold completion zsh)`. */
export function zshCompletion(tree: CommandNode): string {
  return `#compdef keyhold
# zsh completion for keyhold, made by \`keyhold completion zsh\`
_keyhold_tree() {
  commands=() options=() valued=() arguments=()
  case $1 in
${flatten(tree).map(caseOf).join('\n')}
  esac
}
${WALK}
if [[ $funcstack[1] == _keyhold ]]; then
  _keyhold "$@"
elif (( $+functions[compdef] )); then
  compdef _keyhold keyhold
fi
`;
}

function caseOf(node: CommandNode): string {
  const described = (word: string, text: string): string =>
    quote(`${word}:${(text.split('\n')[0] ?? '').replaceAll(':', '\\:')}`);
  const members = {
    commands: node.commands.map((child) => described(child.path.at(-1) ?? '', child.description)),
    options: node.options.flatMap((option) =>
      spellings(option).map((text) => described(text, option.description)),
    ),
    valued: node.options.flatMap((option) => {
      const { value } = option;
      return value === null
        ? []
        : spellings(option).map((text) => `${text} ${quote(kindText(value))}`);
    }),
    arguments: node.arguments.map((value) => quote(kindText(value))),
  };
  const assignments = Object.entries(members)
    .filter(([, words]) => words.length > 0)
    .map(([name, words]) => `      ${name}=(${words.join(' ')})\n`)
    .join('');
  return `    (${quote(pathText(node))})\n${assignments}      ;;`;
}

const WALK = `
_keyhold_reply() {
  local -a names
  case $1 in
    (disk|set)
      names=(\${(f)"$(\${words[1]} ${NAMES_COMMAND} $1 $socket 2> /dev/null)"})
      compadd -a names
      ;;
    (file) _files ;;
    (directory) _files -/ ;;
    (\\=*)
      names=(\${(s:,:)\${1#=}})
      compadd -a names
      ;;
  esac
}

_keyhold() {
  local -a commands options arguments socket
  local -A valued
  local kind= place= word
  local -i i given=1
  _keyhold_tree ''
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    kind=
    if [[ $word == -* ]]; then
      kind=\${valued[$word]-}
      [[ -n $kind ]] || continue
      i+=1
      [[ $word != --socket ]] || socket=(--socket $words[i])
    elif [[ $place$word == help ]]; then
      commands=(\${commands:#help:*}) # help takes the same words once more
    elif (( \${commands[(I)$word:*]} )); then
      place+=" $word"
      _keyhold_tree $place
    else
      given+=1
    fi
  done
  if (( i > CURRENT )); then
    _keyhold_reply $kind
  elif [[ $words[CURRENT] == -* ]]; then
    _describe -o option options
  elif (( $#commands )); then
    _describe command commands
  else
    _keyhold_reply "\${arguments[given]-}"
  fi
}
`;

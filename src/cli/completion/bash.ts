// SPDX-License-Identifier: Apache-2.0
import { type CommandNode, flatten } from '../tree.js';
import { kindText, NAMES_COMMAND, pathText, quote, spellings } from './walk.js';

/** For `source <(keyhold completion bash)`; needs bash 4.4 and no library. */
export function bashCompletion(tree: CommandNode): string {
  return `# bash completion for keyhold, made by \`keyhold completion bash\`
_keyhold_tree() {
  commands= options= valued= arguments=
  case $1 in
${flatten(tree).map(caseOf).join('\n')}
  esac
}
${WALK}
complete -F _keyhold keyhold
`;
}

function caseOf(node: CommandNode): string {
  const commands = node.commands.map(({ path }) => path.at(-1) ?? '');
  const options = node.options.flatMap(spellings);
  const valued = node.options.flatMap((option) => {
    const { value } = option;
    return value === null ? [] : spellings(option).map((text) => `${text}:${kindText(value)}`);
  });
  const values = node.arguments.map((value) => `${kindText(value)}${value.variadic ? '...' : ''}`);
  const members = { commands, options, valued, arguments: values };
  const assignments = Object.entries(members)
    .filter(([, words]) => words.length > 0)
    .map(([name, words]) => `      ${name}=${quote(words.join(' '))}\n`)
    .join('');
  return `    ${quote(pathText(node))})\n${assignments}      ;;`;
}

const WALK = `
# Words as they were typed: readline takes = and : for borders of words.
_keyhold_words() {
  local word glue=
  words=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD}"; do
    if [[ $word == = && \${#words[@]} -gt 0 && \${words[-1]} == --* ]]; then
      glue=new
    elif [[ $word == :* && \${#words[@]} -gt 0 ]]; then
      words[-1]+=$word glue=same
    elif [[ $glue == same ]]; then
      words[-1]+=$word glue=
    else
      words+=("$word") glue=
    fi
  done
  [[ $glue != new ]] || words+=('')
}

# What the value of an option is; empty for a flag.
_keyhold_value() {
  local entry
  kind=
  for entry in $valued; do
    [[ $entry == "$1":* ]] && kind=\${entry#*:}
  done
}

_keyhold_reply() {
  local names
  case $1 in
    disk | set)
      names=$("\${COMP_WORDS[0]}" ${NAMES_COMMAND} "$1" "\${socket[@]}" 2> /dev/null)
      mapfile -t COMPREPLY < <(compgen -W "$names" -- "$cur")
      ;;
    file | directory)
      compopt -o filenames 2> /dev/null
      local action=-f
      [[ $1 == file ]] || action=-d
      mapfile -t COMPREPLY < <(compgen "$action" -- "$cur")
      ;;
    =*)
      names=\${1#=}
      mapfile -t COMPREPLY < <(compgen -W "\${names//,/ }" -- "$cur")
      ;;
  esac
}

_keyhold() {
  local commands options valued arguments kind= path= word cur i given=0
  local -a words socket=() kinds
  COMPREPLY=()
  _keyhold_words
  cur=\${words[-1]}
  _keyhold_tree ''
  for ((i = 0; i < \${#words[@]} - 1; i++)); do
    word=\${words[i]}
    kind=
    if [[ $word == -* ]]; then
      _keyhold_value "$word"
      [[ -n $kind ]] || continue
      i=$((i + 1))
      [[ $word != --socket ]] || socket=(--socket "\${words[i]}")
    elif [[ $path$word == help ]]; then
      commands=\${commands/help/} # help takes the same words once more
    elif [[ " $commands " == *" $word "* ]]; then
      path+=" $word"
      _keyhold_tree "$path"
    else
      given=$((given + 1))
    fi
  done
  if ((i >= \${#words[@]})); then
    _keyhold_reply "$kind"
  elif [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
  elif [[ -n $commands ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
  else
    read -ra kinds <<< "$arguments"
    _keyhold_reply "\${kinds[given]-}"
  fi
}`;

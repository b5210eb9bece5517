// SPDX-License-Identifier: Apache-2.0
import type { EventEmitter } from 'node:events';
import type { Argument, Command, Option } from 'commander';

/*
 * The command line as data, read from the program itself: what shell completion, the man page and
 * `keyhold help --json` are made of, so that none of them can name what does not exist.
 */

/** What completes a value: words, names of the daemon's, files, or nothing. */
export type ValueKind = 'disk' | 'set' | 'file' | 'directory' | 'command' | 'none';

export interface ValueNode {
  /** As it stands in the usage, such as `name`. */
  readonly name: string;
  readonly required: boolean;
  /** Takes all that follow. */
  readonly variadic: boolean;
  readonly kind: ValueKind;
  /** The only words that it may be; null where any will do. */
  readonly choices: readonly string[] | null;
}

export interface OptionNode {
  /** `-f, --follow`, with the value's name if it takes one. */
  readonly flags: string;
  readonly long: string;
  readonly short: string | null;
  readonly description: string;
  /** Null for a flag. */
  readonly value: ValueNode | null;
  readonly mandatory: boolean;
}

export interface CommandNode {
  /** Without the program's name; empty for the program itself. */
  readonly path: readonly string[];
  readonly description: string;
  readonly arguments: readonly ValueNode[];
  readonly options: readonly OptionNode[];
  readonly commands: readonly CommandNode[];
  /** What `--help` says below the options. */
  readonly notes: string;
}

export function readTree(command: Command, path: readonly string[] = []): CommandNode {
  const help = command.createHelp();
  const children = help.visibleCommands(command).filter((child) => child.name() !== '');
  return {
    path,
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => argumentNode(argument, path)),
    options: help.visibleOptions(command).map((option) => optionNode(option, path)),
    commands: children.map((child) => readTree(child, [...path, child.name()])),
    notes: notesOf(command),
  };
}

/** The program, its groups and its commands, in the order of the help. */
export function flatten(node: CommandNode): CommandNode[] {
  return [node, ...node.commands.flatMap(flatten)];
}

export function usageOf({ path, commands, arguments: values }: CommandNode): string {
  const places = values.map(({ name, required, variadic }) => {
    const text = variadic ? `${name}...` : name;
    return required ? `<${text}>` : `[${text}]`;
  });
  const rest = commands.length > 0 ? ['<command>'] : ['[options]', ...places];
  return ['keyhold', ...path, ...rest].join(' ');
}

function argumentNode(argument: Argument, path: readonly string[]): ValueNode {
  const { required, variadic } = argument;
  return valueNode({ name: argument.name(), required, variadic }, argument.argChoices, path);
}

function optionNode(option: Option, path: readonly string[]): OptionNode {
  const { flags, long, short, description, required, optional, mandatory, variadic } = option;
  const name = /[<[]([^>\]]+)[>\]]/.exec(flags)?.[1] ?? '';
  const takesValue = required || optional;
  const words = { name, required, variadic, option: long ?? '' };
  return {
    flags,
    long: long ?? '',
    short: short ?? null,
    description,
    value: takesValue ? valueNode(words, option.argChoices, path) : null,
    mandatory,
  };
}

function valueNode(
  value: { name: string; required: boolean; variadic: boolean; option?: string },
  choices: readonly string[] | undefined,
  path: readonly string[],
): ValueNode {
  const { name, required, variadic } = value;
  return { name, required, variadic, kind: kindOf(value, path), choices: choices ?? null };
}

/** By the words that the commands use for the same thing everywhere. */
function kindOf({ name, option }: { name: string; option?: string }, path: readonly string[]) {
  const [group = '', action = ''] = path;
  const isOfGroup = group === 'disk' || group === 'set';
  if (option === '--set' || name === 'set') return 'set';
  if (option === '--disk' || name === 'disk') return 'disk';
  if (name === 'command') return 'command';
  if (name === 'file' || name === 'path') return 'file';
  if (name === 'dir') return 'directory';
  const isExisting = name === 'name' && (option === undefined || option === '--confirm');
  return isOfGroup && isExisting && action !== 'create' ? group : 'none';
}

/** commander keeps them as listeners, which is also how it prints them. */
function notesOf(command: Command): string {
  let text = '';
  const write = (more: string): void => void (text += more);
  // At run time a Command is an EventEmitter; its types tell of `on` alone.
  (command as unknown as EventEmitter).emit('afterHelp', { error: false, command, write });
  return text.trim();
}

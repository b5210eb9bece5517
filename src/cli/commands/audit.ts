// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander';
import {
  addCommand,
  addGroup,
  type CliContext,
  connect,
  isJson,
  print,
  printJson,
} from '../context.js';
import { EXIT_CODES } from '../exit-codes.js';
import { plain } from '../text.js';

export function addAuditCommands(program: Command, context: CliContext): void {
  const audit = addGroup(program, 'audit', 'the hash-chained log of key uses and state changes');
  addCommand(audit, 'verify', 'check that no record was changed, removed or inserted')
    .addHelpText('after', '\nExits with 8 when the chain is broken.')
    .action(async (_options: object, command: Command) => {
      const result = await (await connect(context, command)).verifyAudit();
      if (!result.ok) context.exitCode = EXIT_CODES.integrity;
      if (isJson(command)) {
        printJson(context, result);
        return;
      }
      const { firstBad } = result;
      const path = plain(result.path);
      const verdict =
        firstBad === null
          ? `${result.ok ? 'sound' : 'NOT sound'}: ${result.records} records, ` +
            `last hash ${result.lastHash}`
          : `NOT sound: line ${firstBad.line}: expected ${plain(firstBad.expected)}, ` +
            `got ${plain(firstBad.actual)}; ${result.records} records before it are sound`;
      print(context, `${path}: ${verdict}\n`);
    });
}

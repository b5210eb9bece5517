// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { DoctorCheck, DoctorReport, DoctorTarget } from '../../admin/api-doctor.js';
import { addCommand, type CliContext, connect, isJson, notEmpty } from '../context.js';
import { print, printJson } from '../context.js';
import { EXIT_CODES, exitCodeOf, type ExitCode } from '../exit-codes.js';
import { remediesOf } from '../remedies.js';
import { formatDoctor } from '../views/doctor.js';

const HELP = `
Without a set or a key: the host and every set. It changes nothing and touches no set key. Exits
with the code of the first check that fails, 0 when there are only warnings. --json has a member
"remedy" for each check, beside what the admin API gives.`;

export function addDoctorCommand(program: Command, context: CliContext): void {
  addCommand(program, 'doctor [set]', 'say what stands between this host and a key, and the cure')
    .addOption(new Option('--key <url>', 'a key that need not belong to a set').argParser(notEmpty))
    .addOption(
      new Option('--identity <name>', 'identity for --key (else the only one)').argParser(notEmpty),
    )
    .addHelpText('after', HELP)
    .action(
      async (
        set: string | undefined,
        { key, identity }: { key?: string; identity?: string },
        command: Command,
      ) => {
        const report = await (
          await connect(context, command)
        ).doctor({
          ...(set === undefined ? {} : { set }),
          ...(key === undefined ? {} : { key }),
          ...(identity === undefined ? {} : { identity }),
        });
        context.exitCode = exitCodeOfReport(report);
        if (isJson(command)) printJson(context, withRemedies(report));
        else print(context, formatDoctor(context.io, report));
      },
    );
}

/** Checks stand in the order in which one needs the other: the first failure is the cause. */
function exitCodeOfReport({ targets, host }: DoctorReport): ExitCode {
  const checks = [...targets.flatMap((target) => target.checks), ...host];
  const first = checks.find(({ verdict }) => verdict === 'fail');
  return first === undefined ? EXIT_CODES.ok : exitCodeOf(first.kind ?? 'internal');
}

function withRemedies({ targets, host }: DoctorReport): object {
  const all = (checks: readonly DoctorCheck[], target?: DoctorTarget): object[] =>
    checks.map((check) => ({ ...check, remedy: remediesOf(check, target) }));
  return {
    targets: targets.map((target) => ({ ...target, checks: all(target.checks, target) })),
    host: all(host),
  };
}

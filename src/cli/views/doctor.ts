// SPDX-License-Identifier: Apache-2.0
import type { DoctorCheck, DoctorReport, DoctorTarget } from '../../admin/api-doctor.js';
import { assertNever } from '../../base/errors.js';
import type { CliIo } from '../io.js';
import { remediesOf } from '../remedies.js';
import { type Column, formatTable } from '../table.js';
import { type Paint, paint, plain } from '../text.js';

interface Row {
  readonly check: DoctorCheck;
  readonly target: DoctorTarget | undefined;
}

/** A table for each key, one for the host; what to do stands below its table. */
export function formatDoctor(io: CliIo, { targets, host }: DoctorReport): string {
  const keys = targets.map((target) => {
    const owner = target.set === null ? '' : `set ${plain(target.set)}, `;
    const title = `${owner}key ${plain(target.key)}, identity ${plain(target.identity)}`;
    return formatChecks(io, title, rowsOf(target.checks, target));
  });
  return [...keys, formatChecks(io, 'host', rowsOf(host))].join('\n');
}

function rowsOf(checks: readonly DoctorCheck[], target?: DoctorTarget): Row[] {
  return checks.map((check) => ({ check, target }));
}

function formatChecks(io: CliIo, title: string, rows: readonly Row[]): string {
  const columns: ReadonlyArray<Column<Row>> = [
    { title: 'CHECK', value: ({ check }) => check.id },
    {
      title: 'VERDICT',
      value: ({ check }) => check.verdict,
      paint: ({ check }) => paintOf(check.verdict),
    },
    { title: 'FOUND', value: ({ check }) => foundOf(check), widthMin: 30 },
  ];
  return `${title}\n${formatTable(io.stdout, columns, rows)}${formatRemedies(io, rows)}`;
}

function foundOf({ code, message }: DoctorCheck): string {
  return code === null ? message : `${code}: ${message}`;
}

/** One block for all checks that want the same. */
function formatRemedies(io: CliIo, rows: readonly Row[]): string {
  const byRemedy = new Map<string, string[]>();
  for (const { check, target } of rows) {
    const remedies = remediesOf(check, target);
    if (remedies.length === 0) continue;
    const text = remedies.map((line) => `  ${plain(line)}\n`).join('');
    const ids = byRemedy.get(text) ?? [];
    byRemedy.set(text, ids.includes(check.id) ? ids : [...ids, check.id]);
  }
  return [...byRemedy]
    .map(([text, ids]) => `${paint(io.stdout, `to do about ${ids.join(', ')}:`, 'bold')}\n${text}`)
    .join('');
}

function paintOf(verdict: DoctorCheck['verdict']): Paint | undefined {
  switch (verdict) {
    case 'ok':
      return 'green';
    case 'warn':
      return 'yellow';
    case 'fail':
      return 'red';
    case 'skipped':
      return 'dim';
    default:
      return assertNever(verdict, 'verdict');
  }
}

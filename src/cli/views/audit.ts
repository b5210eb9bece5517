// SPDX-License-Identifier: Apache-2.0
import type { AnchorReport } from '../../audit/anchors.js';
import type { FileReport } from '../../audit/verify-file.js';
import { plain } from '../text.js';

/** One line on the chain, one on the anchors, one for each anchor that is contradicted. */
export function formatFileReport(name: string, report: FileReport): string {
  const { form, log, records, firstSeq, lastSeq, lastHash, firstBad, anchors } = report;
  const range = firstSeq === null ? 'no records' : `records ${firstSeq} to ${lastSeq ?? firstSeq}`;
  const of = log === null ? '' : ` of ${plain(log.path)} on ${plain(log.host)}`;
  const verdict =
    firstBad === null
      ? `sound: ${range}${of}, ${records} in all, last hash ${lastHash}`
      : `NOT sound: line ${firstBad.line}: expected ${plain(firstBad.expected)}, ` +
        `got ${plain(firstBad.actual)}; ${records} records before it are sound`;
  return `${plain(name)} (${form}): ${verdict}\n${anchors === null ? '' : formatAnchors(anchors)}`;
}

function formatAnchors(anchors: AnchorReport): string {
  const { matched, outside, contradicted, contradictions } = anchors;
  const verdict = contradictions === 0 ? '' : `, ${contradictions} CONTRADICTED`;
  const lines = contradicted.map(({ seq, expected, actual }) => {
    const found = actual === null ? 'the log ends before it' : `found ${actual}`;
    return `  record ${seq}: anchored with hash ${expected}, ${found}\n`;
  });
  return `anchors: ${matched} borne out, ${outside} outside${verdict}\n${lines.join('')}`;
}

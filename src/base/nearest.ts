// SPDX-License-Identifier: Apache-2.0

/**
 * The candidate that a mistyped name most likely meant: smallest edit distance, at most a third of
 * the longer name (so that `sokcet` finds `socket` and `foo` finds nothing).
 */
export function nearestName(name: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    const distanceMax = Math.max(1, Math.floor(Math.max(name.length, candidate.length) / 3));
    if (distance < bestDistance && distance <= distanceMax) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Only names of this length are compared: the distance costs the product of both lengths. */
const COMPARED_LENGTH_MAX = 64;

/** Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours. */
export function editDistance(a: string, b: string): number {
  if (Math.max(a.length, b.length) > COMPARED_LENGTH_MAX) {
    return a === b ? 0 : Math.max(a.length, b.length);
  }
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1] ? 0 : 1;
      const options = [
        (previous[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (previous[column - 1] ?? 0) + same,
      ];
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        options.push((beforePrevious[column - 2] ?? 0) + 1);
      }
      current.push(Math.min(...options));
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[b.length] ?? 0;
}

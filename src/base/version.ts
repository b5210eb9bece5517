// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';

/** The program's version; package.json lies at the same distance from src/ and from dist/. */
export function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

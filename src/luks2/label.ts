// SPDX-License-Identifier: Apache-2.0
import { LABEL_BYTES_MAX } from './layout.js';

/** The LUKS label of a disk: its name, cut at a character boundary to what the field holds. */
export function labelFor(diskName: string): string {
  let label = '';
  for (const character of diskName) {
    if (Buffer.byteLength(label + character) > LABEL_BYTES_MAX) break;
    label += character;
  }
  return label;
}

// SPDX-License-Identifier: Apache-2.0

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const GENERATION_MAX = 2 ** 32 - 1;

/** The 16 bytes of RFC 9562 in the order in which they are written. */
export function uuidBytes(uuid: string, field: string): Uint8Array {
  if (!UUID.test(uuid)) {
    throw new Error(`encode AAD: ${field} is ${JSON.stringify(uuid)}, expected a uuid`);
  }
  return Buffer.from(uuid.replaceAll('-', ''), 'hex');
}

export function assertGeneration(generation: number, field: string): number {
  if (!Number.isInteger(generation) || generation < 1 || generation > GENERATION_MAX) {
    throw new Error(
      `encode AAD: ${field} is ${generation}, expected an integer from 1 to ${GENERATION_MAX}`,
    );
  }
  return generation;
}

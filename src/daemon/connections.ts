// SPDX-License-Identifier: Apache-2.0
import type { ConnectionView } from '../admin/api.js';
import type { Clock } from '../base/clock.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { PlaneConnection } from '../dataplane/plane-connections.js';

/** Every NBD connection as operators see it, oldest first. */
export function viewConnections(options: { plane: DataPlane; clock: Clock }): ConnectionView[] {
  const { plane, clock } = options;
  return plane
    .describeConnections()
    .sort((a, b) => a.connectedAtBootMs - b.connectedAtBootMs || a.id - b.id)
    .map((connection) => view(connection, clock));
}

function view(
  { peer, connectedAtBootMs, ...facts }: PlaneConnection,
  clock: Clock,
): ConnectionView {
  const ageMs = Math.max(0, clock.bootMs() - connectedAtBootMs);
  return {
    ...facts,
    ...peer,
    phase: facts.disk === null ? 'negotiating' : 'transmission',
    connectedAt: new Date(clock.nowMs() - ageMs).toISOString(),
    ageSeconds: ageMs / 1000,
  };
}

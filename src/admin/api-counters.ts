// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { count, seconds } from './fields.js';

/**
 * What `keyhold top` reads every second: counters of every disk, small enough for 10,000 of them.
 * Whoever wants rates asks twice and divides by the difference of `bootSeconds`, which is the
 * daemon's own clock: the way to the caller is in no rate.
 */

const flow = z.object({
  /** Requests answered, of any result. */
  requests: count,
  /** Bytes that successful requests covered. */
  bytes: count,
});

const diskCountersSchema = z.object({
  name: z.string(),
  set: z.string(),
  state: z.enum(['offline', 'online', 'suspended']),
  /** Null exactly when the disk is not offline. */
  reason: z.string().nullable(),
  revoked: z.boolean(),
  leaseSecondsLeft: seconds.nullable(),
  clients: count,
  /** Requests being worked on. */
  inFlight: count,
  /** Requests that wait while the disk is suspended. */
  parked: count,
  /** Counters begin anew when the disk is opened; null while it is not open. */
  counters: z
    .object({
      read: flow,
      write: flow,
      /** Requests of the other commands: flush, trim, write-zeroes, block status. */
      otherRequests: count,
      /**
       * Reads and writes by their time, one more than `latencyBoundsSeconds`: each counts what is
       * at most its bound and more than the one before. Empty before the first of them.
       */
      latency: z.array(count),
    })
    .nullable(),
});
export type DiskCounters = z.infer<typeof diskCountersSchema>;

export const countersSchema = z
  .object({
    /** Clock of the daemon's machine since its start, suspension included. */
    bootSeconds: z.number().min(0),
    uptimeSeconds: seconds,
    connections: count,
    latencyBoundsSeconds: z.array(z.number()).readonly(),
    shards: z.array(
      z.object({
        index: count,
        alive: z.boolean(),
        /** Processor time that the shard has used, over all its runs; busy polling counts. */
        cpuSeconds: seconds,
      }),
    ),
    disks: z.array(diskCountersSchema),
  })
  .meta({ id: 'Counters', description: 'Counters of every disk and shard, for rates.' });
export type Counters = z.infer<typeof countersSchema>;

export interface CounterServices {
  counters(): Promise<Counters>;
}

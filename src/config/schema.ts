// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { parseDurationMs } from '../base/units.js';
import { identityConfigSchema } from '../vault/identity-config.js';
import { parseAddress } from './address.js';
import { auditSchema } from './audit.js';
import { nbdSchema } from './nbd.js';
import { absolutePath, absolutePathOrEmpty, socketPath } from './paths.js';

/** KeyGuard::kShardsMax and ::kCipherThreadsMax of native code, which refuses more. */
export const SHARDS_MAX = 64;
const CIPHER_THREADS_MAX = 16;
/** Beyond a millisecond a sleeping thread is no slower, whatever the machine. */
const BUSY_POLL_US_MAX = 1000;

export const ENGINE_SETTINGS = ['auto', 'io_uring', 'epoll'] as const;

/** A duration with its range; both ends belong to it. */
function duration(min: string, max: string): z.ZodString {
  const [minMs, maxMs] = [parseDurationMs(min), parseDurationMs(max)];
  return z.string().refine((text) => {
    try {
      const durationMs = parseDurationMs(text);
      return durationMs >= minMs && durationMs <= maxMs;
    } catch {
      return false;
    }
  }, `expected a duration between ${min} and ${max}`);
}

const proxyUrl = z.string().refine(
  (text) => {
    const protocol = URL.canParse(text) ? new URL(text).protocol : undefined;
    return text === '' || protocol === 'http:' || protocol === 'https:';
  },
  // The value is not repeated: it may hold the password of the proxy.
  {
    message: 'expected an http:// or https:// URL, or nothing',
    params: { hideValue: true },
  },
);

/** The file as it is written; every field may be left out. `fill` applies the defaults. */
export const configSchema = z.strictObject({
  state_dir: z.exactOptional(absolutePath),
  nbd: z.exactOptional(nbdSchema),
  audit: z.exactOptional(auditSchema),
  admin: z.exactOptional(z.strictObject({ socket: z.exactOptional(socketPath) })),
  metrics: z.exactOptional(
    z.strictObject({
      listen: z.exactOptional(
        z.string().refine((text) => text === '' || parseAddress(text) !== undefined, {
          message: 'expected an IP address and a port, such as 127.0.0.1:9754, or nothing',
        }),
      ),
    }),
  ),
  data_plane: z.exactOptional(
    z.strictObject({
      shards: z.exactOptional(z.int().min(0).max(SHARDS_MAX)),
      xts: z.exactOptional(
        z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'expected auto or a kernel'),
      ),
      engine: z.exactOptional(z.enum(ENGINE_SETTINGS)),
      cipher_threads: z.exactOptional(
        z.union([z.literal('auto'), z.int().min(0).max(CIPHER_THREADS_MAX)], {
          error: `expected auto or a whole number from 0 to ${CIPHER_THREADS_MAX}`,
        }),
      ),
      busy_poll_us: z.exactOptional(z.int().min(0).max(BUSY_POLL_US_MAX)),
    }),
  ),
  platform_key: z.exactOptional(
    z.strictObject({
      file: z.exactOptional(absolutePath),
      credential: z.exactOptional(
        z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/, 'expected the name of a credential'),
      ),
    }),
  ),
  disks: z.exactOptional(
    z.strictObject({
      linger: z.exactOptional(duration('0s', '10m')),
      grace: z.exactOptional(duration('0s', '24h')),
    }),
  ),
  identity: z.exactOptional(
    z.record(
      z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'expected letters, digits, . _ -'),
      identityConfigSchema,
    ),
  ),
  vault: z.exactOptional(
    z.strictObject({
      ca_file: z.exactOptional(absolutePathOrEmpty),
      verify_challenge_resource: z.exactOptional(z.boolean()),
      proxy: z.exactOptional(proxyUrl),
      timeout: z.exactOptional(duration('100ms', '60s')),
      service_version: z.exactOptional(
        z.string().regex(/^\d+\.\d+(-preview\.\d+)?$/, 'expected a version such as 7.5'),
      ),
    }),
  ),
});
export type ConfigFile = z.infer<typeof configSchema>;

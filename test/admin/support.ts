// SPDX-License-Identifier: Apache-2.0
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAdminClient, type AdminClient } from '../../src/admin/client.js';
import { startAdminServer, type AdminServer } from '../../src/admin/server.js';
import { createSystemClock } from '../../src/base/clock.js';
import { createSilentLogger } from '../../src/base/logger.js';
import { createFakeServices, type FakeServices } from './fake-services.js';

export const DAEMON_UID = 990;
export const OPERATOR_GID = 991;
export const ROOT = { uid: 0, gid: 0, pid: 1 };

export interface Fixture {
  readonly directory: string;
  readonly socketPath: string;
  readonly services: FakeServices;
  readonly server: AdminServer;
  readonly client: AdminClient;
}

interface Teardown {
  teardown(run: () => Promise<unknown>): void;
}

export async function temporaryDirectory(t: Teardown): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'keyhold-admin-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export const clock = createSystemClock({ bootMs: () => performance.now() });

/**
 * A server on a real unix socket, with `peer` as whoever calls; `status` is the peer's /proc
 * file.
 */
export async function startFixture(
  t: Teardown,
  peer: { uid: number; gid: number; pid: number } | 'unknown' = ROOT,
  status?: string,
): Promise<Fixture> {
  const directory = await temporaryDirectory(t);
  const socketPath = join(directory, 'admin.sock');
  const groupFile = join(directory, 'group');
  await writeFile(groupFile, `root:x:0:\nkeyhold:x:${OPERATOR_GID}:someone\n`);
  const services = createFakeServices();
  const server = await startAdminServer({
    socketPath,
    services,
    peerCredentials(fd) {
      if (peer === 'unknown') throw new Error(`no credentials of ${fd}`);
      return peer;
    },
    logger: createSilentLogger(),
    clock,
    version: '0.1.0',
    daemonUid: DAEMON_UID,
    groupFile,
    procDirectory: status === undefined ? directory : await writeProc(directory, status),
  });
  t.teardown(() => server.close());
  return { directory, socketPath, services, server, client: createAdminClient({ socketPath }) };
}

async function writeProc(directory: string, status: string): Promise<string> {
  const { mkdir } = await import('node:fs/promises');
  await mkdir(join(directory, '4242'));
  await writeFile(join(directory, '4242', 'status'), status);
  return directory;
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly text: string;
}

/** One HTTP request as a script would send it. */
export function raw(
  socketPath: string,
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string> = { 'content-type': 'application/json' },
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({
      socketPath,
      method,
      path,
      agent: false,
      headers: body === undefined ? {} : headers,
    });
    outgoing.on('error', reject);
    outgoing.on('response', (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('data', (chunk: string) => (text += chunk));
      answer.on('error', reject);
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }),
      );
    });
    outgoing.end(body);
  });
}

/** The error of a raw answer. */
export function errorOf(answer: RawAnswer): { code: string; kind: string; message: string } {
  return (JSON.parse(answer.text) as { error: { code: string; kind: string; message: string } })
    .error;
}

// SPDX-License-Identifier: Apache-2.0
import type { Server } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { codeOf, KeyholdError, messageOf } from '../base/errors.js';
import { createSilentLogger, type Logger } from '../base/logger.js';
import { makeDirectory } from '../base/make-directory.js';
import { loadClientSecret } from './authority.js';
import { loadCertificates } from './certificates.js';
import { applySettings, type ControlServices } from './control-api.js';
import { createControlServer, listenControl } from './control-server.js';
import type { SettingsInput } from './control-schemas.js';
import { codes } from './errors.js';
import { listen, trackSockets } from './http.js';
import { KeyRing } from './key-ring.js';
import { RequestLog } from './request-log.js';
import { createRestServer } from './rest-server.js';
import { StateFile } from './state.js';
import { Troubles } from './trouble.js';

export interface DevVaultOptions {
  /**
   * Holds everything: state.json, certificates, the client secret, control.sock. Made if missing.
   */
  readonly stateDir: string;
  /** An address of this machine's loopback. Default 127.0.0.1. */
  readonly host?: string;
  /** 0 or none: the one of the last start, or any free one at first. */
  readonly port?: number;
  /** Changed at start and then kept, as through the control socket. */
  readonly settings?: SettingsInput;
  readonly logger?: Logger;
  /** The clock behind token expiry, key validity and retention; for tests. */
  readonly nowMs?: () => number;
}

/** A running vault. All of it is public knowledge except what the two paths lead to. */
export interface DevVault {
  /** `https://127.0.0.1:PORT`: the vault's URL, and the authority host of its identities. */
  readonly url: string;
  readonly port: number;
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecretPath: string;
  readonly caPath: string;
  /** For createDevVaultClient. */
  readonly socketPath: string;
  /** The challenge's resource; its scope is `<resource>/.default`. */
  readonly resource: string;
  /** Ends every connection at once, answered or not, and stops listening. */
  close(): Promise<void>;
}

/**
 * Starts the embedded Key Vault. If it fails, nothing listens; what was made in `stateDir` stays.
 */
export async function startDevVault(options: DevVaultOptions): Promise<DevVault> {
  const { stateDir, host = '127.0.0.1', logger = createSilentLogger() } = options;
  assertLoopback(host);
  const nowMs = options.nowMs ?? Date.now;
  await makeStateDirectory(stateDir);
  const socketPath = join(stateDir, 'control.sock');
  let services: ControlServices | undefined;
  const control = createControlServer(() => {
    if (services === undefined) throw new Error('the embedded vault is still starting');
    return services;
  }, logger);
  const stopControl = trackSockets(control);
  // First, since the socket is the lock of the state directory.
  await listenControl(control, socketPath);
  try {
    const parts = await startRest({ stateDir, host, logger, nowMs, options });
    services = parts.services;
    logger.info({ url: services.identity.url, socketPath }, 'embedded vault listens');
    return describeVault(services, socketPath, async () => {
      await Promise.all([stopControl.closeNow(), parts.close()]);
      await parts.services.file.settle();
      parts.services.keys.close();
    });
  } catch (error) {
    await stopControl.closeNow();
    throw error;
  }
}

async function makeStateDirectory(stateDir: string): Promise<void> {
  try {
    await makeDirectory(stateDir, { mode: 0o700 });
  } catch (error) {
    throw new KeyholdError(
      codes.ERR_DEVVAULT_STATE,
      `cannot make the embedded vault's state directory ${stateDir}: ${messageOf(error)}`,
      { fields: { stateDir }, cause: error },
    );
  }
}

async function startRest(context: {
  stateDir: string;
  host: string;
  logger: Logger;
  nowMs: () => number;
  options: DevVaultOptions;
}): Promise<{ services: ControlServices; close: () => Promise<void> }> {
  const { stateDir, host, logger, nowMs, options } = context;
  const startedAt = new Date(nowMs()).toISOString();
  const file = await StateFile.open(join(stateDir, 'state.json'));
  const { settings } = options;
  if (settings !== undefined) await file.update((draft) => applySettings(draft, settings));
  const certificates = await loadCertificates({ stateDir, host, nowMs: nowMs() });
  const secret = await loadClientSecret(stateDir);
  const keys = new KeyRing(file, nowMs);
  const shared = { file, keys, troubles: new Troubles(), log: new RequestLog(), nowMs };
  let url = '';
  const resource = resourceFor(host);
  const https = createRestServer(certificates.server, {
    ...shared,
    logger,
    secretHash: secret.hash,
    baseUrl: () => url,
    resource,
  });
  const stop = trackSockets(https);
  const port = await listenRest(https, host, options.port, file);
  url = `https://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const identity = {
    url,
    startedAt,
    clientSecretPath: secret.path,
    caPath: certificates.caPath,
    resource,
  };
  return { services: { ...shared, identity }, close: () => stop.closeNow() };
}

/** Listens and remembers the port, because every key id contains it. */
async function listenRest(
  server: Server,
  host: string,
  wanted: number | undefined,
  file: StateFile,
): Promise<number> {
  const asked = wanted === undefined || wanted === 0 ? (file.current.port ?? 0) : wanted;
  try {
    await listen(server, { host, port: asked });
  } catch (error) {
    const isTaken = codeOf(error) === 'EADDRINUSE';
    throw new KeyholdError(
      isTaken ? codes.ERR_DEVVAULT_PORT_TAKEN : codes.ERR_DEVVAULT_LISTEN,
      `cannot listen on ${host} port ${asked}: ${isTaken ? 'the port is taken' : messageOf(error)}`,
      { fields: { host, port: asked }, cause: error },
    );
  }
  const { port } = server.address() as AddressInfo;
  if (port === file.current.port) return port;
  try {
    await file.update((draft) => {
      draft.port = port;
    });
    return port;
  } catch (error) {
    server.close();
    throw error;
  }
}

function describeVault(
  { identity, file }: ControlServices,
  socketPath: string,
  close: () => Promise<void>,
): DevVault {
  const { url, clientSecretPath, caPath, resource } = identity;
  const { tenantId, clientId } = file.current;
  const port = Number(new URL(url).port || 443);
  let closed: Promise<void> | undefined;
  return {
    url,
    port,
    tenantId,
    clientId,
    clientSecretPath,
    caPath,
    socketPath,
    resource,
    close: () => (closed ??= close()),
  };
}

/** Names are refused too: what `localhost` resolves to is not in this program's hands. */
function assertLoopback(host: string): void {
  if (host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))) return;
  throw new KeyholdError(
    codes.ERR_DEVVAULT_NOT_LOOPBACK,
    `cannot start the embedded vault on ${JSON.stringify(host)}: ` +
      'expected an address of 127.0.0.0/8 or ::1',
    { fields: { host } },
  );
}

/**
 * The challenge's resource. The SDK demands that the request's host ends with a dot and the
 * resource's host, which keeps a hostile server from asking for another service's token; the port
 * does not count. For 127.0.0.1 that leaves `0.0.1`, and only a scheme like `api:`, which Entra
 * uses for applications, keeps the URL parser from reading it as the address 0.0.0.1. With it the
 * check stays on. An IPv6 address has no such suffix: its clients must turn the check off.
 */
function resourceFor(host: string): string {
  return isIP(host) === 4
    ? `api://${host.slice(host.indexOf('.') + 1)}`
    : 'https://vault.azure.net';
}

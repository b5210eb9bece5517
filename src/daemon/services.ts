// SPDX-License-Identifier: Apache-2.0
import type {
  AdminServices,
  AllowResult,
  Caller,
  ChangeAllowRequest,
  ConnectionView,
  CreateDiskRequest,
  DiskDetail,
  DiskView,
  ExportedKey,
  ExportKeyRequest,
  HandOver,
  MoveDiskRequest,
  ReloadResult,
  Status,
} from '../admin/api.js';
import type { AuditVerifyResult } from '../admin/api-audit.js';
import type {
  AssignKeyRequest,
  CheckResult,
  ConfirmRequest,
  DrillRequest,
  CreateSetRequest,
  Impact,
  ImpactQuery,
  PurgeReceipt,
  SetView,
  UpdateSetRequest,
} from '../admin/api-sets.js';
import type { AuditExportQuery } from '../admin/api-audit.js';
import type { Counters } from '../admin/api-counters.js';
import type { DoctorReport, DoctorRequest } from '../admin/api-doctor.js';
import type { AuditLog } from '../audit/audit-log.js';
import type { Clock } from '../base/clock.js';
import { codeOf, KeyholdError } from '../base/errors.js';
import type { DataPlane } from '../dataplane/plane.js';
import type { DiskService } from '../disks/disk-service.js';
import type { KeyExportRequest } from '../disks/key-export.js';
import type { ExportRefusal } from '../nbd/exports.js';
import type { SetService } from '../sets/set-service.js';
import type { Alarms } from './alarms.js';
import { viewConnections } from './connections.js';
import { readCounters } from './counters.js';
import type { Doctor } from './doctor.js';
import { codes } from './errors.js';
import type { Counts } from './reports.js';
import type { Trail } from './trail.js';

/** What `status` shows and nothing else knows. */
export interface DaemonFacts {
  readonly version: string;
  readonly startedAtMs: number;
  readonly xtsKernel: string;
  readonly nbd: readonly string[];
  readonly metricsUrl: string | null;
  readonly adminSocket: string;
  readonly platformKey: string | null;
  /** Names of the config's identities. */
  readonly identities: readonly string[];
}

export interface ServicesOptions {
  readonly facts: () => DaemonFacts;
  readonly sets: SetService;
  readonly disks: DiskService;
  readonly plane: DataPlane;
  readonly trail: Trail;
  readonly audit: AuditLog;
  readonly alarms: Alarms;
  readonly clock: Clock;
  readonly doctor: Doctor;
  readonly exportAudit: (query: AuditExportQuery) => Promise<AsyncIterable<string>>;
  readonly reload: (caller: Caller) => Promise<ReloadResult>;
}

/** The admin API's operations on the live objects; every command leaves a record of who gave it. */
export class DaemonServices implements AdminServices {
  readonly #options: ServicesOptions;

  constructor(options: ServicesOptions) {
    this.#options = options;
  }

  status(): Promise<Status> {
    const { facts, plane, alarms, clock } = this.#options;
    const { version, startedAtMs, xtsKernel, nbd, metricsUrl, adminSocket, platformKey } = facts();
    return Promise.resolve({
      version,
      pid: process.pid,
      startedAt: new Date(startedAtMs).toISOString(),
      uptimeSeconds: Math.max(0, (clock.nowMs() - startedAtMs) / 1000),
      shards: plane.shards(),
      xtsKernel,
      engine: { name: plane.engine.name, why: plane.engine.why },
      nbd: [...nbd],
      metrics: metricsUrl,
      adminSocket,
      platformKey,
      sets: this.#countSets(),
      disks: this.#countDisks(),
      connections: plane.connections().length,
      alarms: alarms.list(),
    });
  }

  /** What a service manager is told; asked once a second. */
  counts(): Counts {
    return {
      disks: this.#options.disks.count(),
      sets: this.#countSets(),
      nextProbe: this.#options.sets.nextProbe(),
      alarms: this.#options.alarms.list().length,
    };
  }

  listConnections(): Promise<ConnectionView[]> {
    return Promise.resolve(viewConnections(this.#options));
  }

  listSets(): Promise<SetView[]> {
    return Promise.resolve(this.#options.sets.views());
  }

  counters(): Promise<Counters> {
    const { disks, plane, clock, facts } = this.#options;
    const { startedAtMs } = facts();
    return Promise.resolve(readCounters({ views: disks.eachView(), plane, clock, startedAtMs }));
  }

  async showSet(name: string): Promise<SetView> {
    return this.#options.sets.show(name);
  }

  async createSet(request: CreateSetRequest, caller: Caller): Promise<SetView> {
    return this.#command('set-create', request.name, caller, async () => {
      const identity = request.identity ?? this.#onlyIdentity(request.name);
      return this.#options.sets.create({ ...request, identity });
    });
  }

  async updateSet(name: string, request: UpdateSetRequest, caller: Caller): Promise<SetView> {
    return this.#command('set-update', name, caller, () =>
      this.#options.sets.update(name, request),
    );
  }

  async rotateSet(name: string, caller: Caller): Promise<SetView> {
    return this.#command('set-rotate', name, caller, () => this.#options.sets.rotate(name));
  }

  async assignKey(name: string, request: AssignKeyRequest, caller: Caller): Promise<SetView> {
    const { keyUrl: url, slot = 1 } = request;
    const target = url === undefined ? 'platform' : { url, slot };
    return this.#command('set-assign-key', name, caller, () =>
      this.#options.sets.assign(name, target),
    );
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- what it throws must be a rejection
  async impactOfSet(name: string, query: ImpactQuery): Promise<Impact> {
    return this.#options.sets.impact(name, query);
  }

  async beginDrill(name: string, request: DrillRequest, caller: Caller): Promise<SetView> {
    return this.#command('set-drill', name, caller, () =>
      Promise.resolve().then(() => this.#options.sets.beginDrill(name, request)),
    );
  }

  async endDrill(name: string, caller: Caller): Promise<SetView> {
    return this.#command('set-drill-end', name, caller, () => this.#options.sets.endDrill(name));
  }

  async purgeSet(name: string, { confirm }: ConfirmRequest, caller: Caller): Promise<PurgeReceipt> {
    return this.#command('set-purge', name, caller, () => this.#options.sets.purge(name, confirm));
  }

  async checkSet(name: string, caller: Caller): Promise<CheckResult> {
    return this.#command('set-check', name, caller, () => this.#options.sets.check(name));
  }

  async deleteSet(name: string, caller: Caller): Promise<void> {
    await this.#command('set-delete', name, caller, () => this.#options.sets.delete(name));
  }

  listDisks(): Promise<DiskView[]> {
    return Promise.resolve(this.#options.disks.views());
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- what it throws must be a rejection
  async showDisk(name: string): Promise<DiskDetail> {
    const view = this.#options.disks.view(name);
    const connections = viewConnections(this.#options).filter(({ disk }) => disk === name);
    // Counted and listed in one look, so that the two agree.
    return { ...view, clients: connections.length, connections };
  }

  async createDisk(request: CreateDiskRequest, caller: Caller): Promise<DiskView> {
    const { disks } = this.#options;
    return this.#command('disk-create', request.name, caller, () => disks.create(request));
  }

  async attachDisk(name: string, caller: Caller): Promise<DiskView> {
    return this.#command('disk-attach', name, caller, () => this.#options.disks.attach(name));
  }

  async detachDisk(name: string, caller: Caller): Promise<DiskView> {
    return this.#command('disk-detach', name, caller, () => this.#options.disks.detach(name));
  }

  async restartDisk(name: string, caller: Caller): Promise<DiskView> {
    return this.#command('disk-restart', name, caller, () => this.#options.disks.restart(name));
  }

  async changeAllow(
    name: string,
    change: ChangeAllowRequest,
    caller: Caller,
  ): Promise<AllowResult> {
    return this.#command('disk-allow', name, caller, async () => {
      const { allow, disconnected } = await this.#options.disks.changeAllow(name, change);
      return { disk: name, allow, disconnected };
    });
  }

  async moveDisk(name: string, { set }: MoveDiskRequest, caller: Caller): Promise<DiskView> {
    return this.#command('disk-move', name, caller, () => this.#options.disks.move(name, set));
  }

  async eraseDisk(name: string, { confirm }: ConfirmRequest, caller: Caller): Promise<DiskView> {
    const { disks } = this.#options;
    return this.#command('disk-erase', name, caller, () => disks.erase(name, confirm));
  }

  async exportKey(name: string, request: ExportKeyRequest, caller: Caller): Promise<ExportedKey> {
    const { disks, trail } = this.#options;
    const { uid, pid } = caller;
    const { file, layer = null } = request;
    return this.#command('disk-export-key', name, caller, async () => {
      const audit: KeyExportRequest['audit'] = (facts) =>
        trail.demand('dek-export', { ...facts, uid, pid });
      await disks.exportKey(name, { ...request, audit });
      return { disk: name, layer, file };
    });
  }

  async deleteDisk(name: string, options: { deleteStore: boolean }, caller: Caller): Promise<void> {
    const { disks } = this.#options;
    await this.#command('disk-delete', name, caller, () => disks.delete(name, options));
  }

  async serveDisk(name: string, caller: Caller, handOver: HandOver): Promise<void> {
    const { disks, plane } = this.#options;
    const { uid, gid, pid } = caller;
    // eslint-disable-next-line @typescript-eslint/require-await -- a throw must be a rejection
    await this.#command('disk-serve', name, caller, async () => {
      disks.view(name); // an operator is told when there is no such disk; NBD clients are not
      const address = { kind: 'unix', uid, gid, pid } as const;
      const found = disks.exportsFor({ address, tls: null }).find(name);
      if ('refused' in found) throw notServed(name, caller, found);
      handOver((fd, greeting) => plane.takeConnection(fd, { greeting, only: name }));
    });
  }

  async verifyAudit(): Promise<AuditVerifyResult> {
    const { audit } = this.#options;
    const report = await audit.verify();
    return { ...report, path: audit.path, firstBad: report.firstBad ?? null };
  }

  async exportAudit(query: AuditExportQuery, caller: Caller): Promise<AsyncIterable<string>> {
    const { exportAudit } = this.#options;
    return this.#command('audit-export', JSON.stringify(query), caller, () => exportAudit(query));
  }

  async doctor(request: DoctorRequest, caller: Caller): Promise<DoctorReport> {
    const target = request.set ?? request.key ?? '*';
    const { doctor } = this.#options;
    return this.#command('doctor', target, caller, () => doctor.examine(request, caller));
  }

  async reload(caller: Caller): Promise<ReloadResult> {
    return this.#command('reload', 'config', caller, () => this.#options.reload(caller));
  }

  subscribe(listener: Parameters<AdminServices['subscribe']>[0]): () => void {
    return this.#options.trail.subscribe(listener);
  }

  /** Runs a command and records who gave it and how it ended. */
  async #command<T>(
    command: string,
    target: string,
    { uid, pid }: Caller,
    work: () => Promise<T>,
  ): Promise<T> {
    const { trail } = this.#options;
    try {
      const result = await work();
      await trail.record('command', { command, target, uid, pid, outcome: 'ok' });
      return result;
    } catch (error) {
      const outcome = codeOf(error) ?? 'failed';
      await trail.record('command', { command, target, uid, pid, outcome });
      throw error;
    }
  }

  #onlyIdentity(set: string): string {
    const { identities } = this.#options.facts();
    const [only] = identities;
    if (only !== undefined && identities.length === 1) return only;
    const list = identities.length === 0 ? 'none' : identities.join(', ');
    throw new KeyholdError(
      codes.ERR_IDENTITY_AMBIGUOUS,
      `creating encryption set ${set} without an identity: ` +
        `expected exactly one in the config, found ${list}`,
      { fields: { set, identities: identities.length } },
    );
  }

  #countSets(): Status['sets'] {
    const count = { total: 0, unknown: 0, granted: 0, denied: 0, lapsed: 0 };
    for (const set of this.#options.sets.list()) {
      count.total += 1;
      count[set.access.kind] += 1;
    }
    return count;
  }

  #countDisks(): Status['disks'] {
    const count = { total: 0, online: 0, offline: 0, suspended: 0, revoked: 0 };
    for (const disk of this.#options.disks.views()) {
      count.total += 1;
      count[disk.state] += 1;
      if (disk.revoked) count.revoked += 1;
    }
    return count;
  }
}

function notServed(disk: string, { uid }: Caller, { refused, text }: ExportRefusal): KeyholdError {
  return refused === 'offline'
    ? new KeyholdError(codes.ERR_SERVE_OFFLINE, `serving disk ${disk}: ${text}`, {
        fields: { disk },
      })
    : new KeyholdError(
        codes.ERR_SERVE_DENIED,
        `serving disk ${disk}: its allow list does not admit user ${uid}`,
        { fields: { disk, uid } },
      );
}

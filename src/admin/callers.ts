// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { KeyholdError } from '../base/errors.js';
import { ROLES, type Caller, type Role } from './api.js';
import { codes } from './errors.js';

/** SO_PEERCRED of a connected unix socket; native code, since Node cannot ask. */
export type PeerCredentials = (fd: number) => { uid: number; gid: number; pid: number };

export interface CallerOptions {
  readonly peerCredentials: PeerCredentials;
  /** The daemon's own user, who may do all, like root. */
  readonly daemonUid: number;
  /** Members may operate. */
  readonly operatorGroup: string;
  readonly groupFile: string;
  readonly procDirectory: string;
}

/**
 * Who is at the other end of a connection. Called once, when the connection arrives: the kernel
 * fixed uid, gid and pid at connect(), and the sooner the rest is read the less can have changed.
 * Throws when the kernel does not tell; the connection then has no rights at all.
 *
 * Two hazards, both of which can only be met here:
 * - Node has no public way to a socket's file descriptor; `_handle.fd` is what its own tests use.
 *   Where it is missing the caller is unknown.
 * - Supplementary groups come from /proc/PID/status. The process may be gone and its pid reused; so
 *   the groups count only while the process there still has the peer's uid, and a process of
 *   another pid namespace (pid 0) has none. An error here takes rights away, never gives them.
 */
export function identifyCaller(socket: Socket, options: CallerOptions): Caller {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } | null };
  const fd = handle?.fd;
  if (fd === undefined || fd < 0) throw new Error('the connection has no file descriptor');
  const peer = options.peerCredentials(fd);
  return { ...peer, role: roleOf(peer, options) };
}

/** Whether a role includes another: status < operate < admin. */
export function includesRole(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** Throws ERR_ADMIN_FORBIDDEN unless the caller is known and may do this. */
export function assertRole(
  caller: Caller | undefined,
  needed: Role,
  operation: string,
): asserts caller is Caller {
  if (caller === undefined) {
    throw new KeyholdError(codes.ERR_ADMIN_FORBIDDEN, 'the kernel does not say who is calling');
  }
  const { uid, role } = caller;
  if (includesRole(role, needed)) return;
  throw new KeyholdError(
    codes.ERR_ADMIN_FORBIDDEN,
    `user ${uid} may not ${operation}: it needs role ${needed}, the caller has ${role}`,
    { fields: { uid, role, needed } },
  );
}

function roleOf(peer: { uid: number; gid: number; pid: number }, options: CallerOptions): Role {
  if (peer.uid === 0 || peer.uid === options.daemonUid) return 'admin';
  const operatorGid = groupId(options.groupFile, options.operatorGroup);
  if (operatorGid === undefined) return 'status';
  if (peer.gid === operatorGid) return 'operate';
  return supplementaryGroups(peer, options).includes(operatorGid) ? 'operate' : 'status';
}

/**
 * The id of a group of /etc/group. Who is a member is not read there but asked of the process, so
 * members that a directory service adds count as well; only the group itself must be local.
 */
export function groupId(groupFile: string, name: string): number | undefined {
  let text: string;
  try {
    text = readFileSync(groupFile, 'utf8');
  } catch {
    return undefined;
  }
  for (const line of text.split('\n')) {
    const [groupName, , gid] = line.split(':');
    if (groupName === name && gid !== undefined && /^\d+$/.test(gid)) return Number(gid);
  }
  return undefined;
}

function supplementaryGroups(
  peer: { uid: number; pid: number },
  options: CallerOptions,
): readonly number[] {
  if (peer.pid <= 0) return [];
  let status: string;
  try {
    status = readFileSync(`${options.procDirectory}/${peer.pid}/status`, 'utf8');
  } catch {
    return [];
  }
  // "Uid: real effective saved filesystem"; SO_PEERCRED reports the effective one.
  const effectiveUid = numbersOf(status, 'Uid')[1];
  return effectiveUid === peer.uid ? numbersOf(status, 'Groups') : [];
}

function numbersOf(status: string, field: string): number[] {
  const line = status.split('\n').find((text) => text.startsWith(`${field}:`));
  return (line?.slice(field.length + 1).match(/\d+/g) ?? []).map(Number);
}

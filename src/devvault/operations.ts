// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';

/** What a caller can be permitted to do with keys: Azure's names of key permissions. */
export const PERMISSIONS = [
  'get',
  'list',
  'create',
  'update',
  'delete',
  'recover',
  'purge',
  'rotate',
  'getRotationPolicy',
  'setRotationPolicy',
  'wrapKey',
  'unwrapKey',
  'encrypt',
  'decrypt',
] as const;

export type Permission = (typeof PERMISSIONS)[number];

export const permissionSchema = z.enum(PERMISSIONS);

/** `key_ops` of a JSON web key. */
export const KEY_OPERATIONS = [
  'encrypt',
  'decrypt',
  'sign',
  'verify',
  'wrapKey',
  'unwrapKey',
] as const;

export const keyOperationSchema = z.enum(KEY_OPERATIONS);
export type KeyOperation = z.infer<typeof keyOperationSchema>;

/** The part of `Action` in an RBAC refusal that differs by operation. */
export const RBAC_ACTIONS: Readonly<Record<Permission, string>> = {
  get: 'keys/read',
  list: 'keys/read',
  create: 'keys/create/action',
  update: 'keys/update/action',
  delete: 'keys/delete',
  recover: 'keys/recover/action',
  purge: 'keys/purge/action',
  rotate: 'keys/rotate/action',
  getRotationPolicy: 'keyrotationpolicies/read',
  setRotationPolicy: 'keyrotationpolicies/write',
  wrapKey: 'keys/wrap/action',
  unwrapKey: 'keys/unwrap/action',
  encrypt: 'keys/encrypt/action',
  decrypt: 'keys/decrypt/action',
};

// SPDX-License-Identifier: Apache-2.0
import type { z } from 'zod';
import { nameParamsSchema, type AdminServices, type Caller, type Role } from './api.js';

export interface RouteInput {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
  readonly caller: Caller;
}

/** One operation of the API: what validates it, who may call it, what it calls. */
export interface AdminRoute {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly role: Role;
  readonly operationId: string;
  readonly summary: string;
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  readonly status: 200 | 201 | 204;
  /** Left out exactly with status 204. */
  readonly answer?: z.ZodType;
  call(services: AdminServices, input: RouteInput): Promise<unknown>;
}

/** What the operations on one named object have in common. */
export function one(
  noun: 'set' | 'disk',
  verb = 'show',
): Pick<AdminRoute, 'operationId' | 'params' | 'status'> {
  const operationId = `${verb}${noun.charAt(0).toUpperCase()}${noun.slice(1)}`;
  return { operationId, params: nameParamsSchema, status: 200 };
}

export function nameOf(params: unknown): string {
  return (params as z.infer<typeof nameParamsSchema>).name;
}

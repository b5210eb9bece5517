// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_ADMIN_REQUEST: {
    kind: 'invalid',
    summary: 'A request to the admin API has a missing, wrong or unknown field.',
    hint: 'compare the request with the OpenAPI document at /v1/openapi.json',
  },
  ERR_ADMIN_ROUTE: {
    kind: 'not-found',
    summary: 'The admin API has no such path.',
    hint: 'see /v1/openapi.json for the paths; CLI and daemon may differ in version',
  },
  ERR_ADMIN_METHOD: {
    kind: 'usage',
    summary: 'The path of the admin API exists, but not with this HTTP method.',
    hint: 'use one of the methods that the Allow header of the answer lists',
  },
  ERR_ADMIN_TOO_LARGE: {
    kind: 'invalid',
    summary: 'The body of a request to the admin API is larger than the limit.',
    hint: 'requests hold names, URLs and numbers only; check what is being sent',
  },
  ERR_ADMIN_FORBIDDEN: {
    kind: 'forbidden',
    summary: 'The caller may not do this, or may not open the admin socket at all.',
    hint: "run as root or the daemon's user; group keyhold may attach, detach, restart and check",
  },
  ERR_ADMIN_UNREACHABLE: {
    kind: 'unavailable',
    summary: 'No daemon answers on the admin socket.',
    hint: 'start the daemon, or name its socket with --socket PATH or KEYHOLD_SOCKET',
  },
  ERR_ADMIN_TIMEOUT: {
    kind: 'unavailable',
    summary: 'The daemon did not answer in time.',
    hint: 'look at `keyhold status` and the log of the daemon; the operation may still complete',
  },
  ERR_ADMIN_RESPONSE: {
    kind: 'internal',
    summary: 'The answer of the admin API does not have the documented form.',
    hint: 'check that the socket belongs to a keyhold daemon of the same version as the CLI',
  },
  ERR_ADMIN_SOCKET: {
    kind: 'conflict',
    summary: 'The admin socket could not be set up.',
    hint: 'check that no other daemon serves the socket, and the permissions of its directory',
  },
  ERR_ADMIN_BUSY: {
    kind: 'unavailable',
    summary: 'Too many subscribers of the event stream.',
    hint: 'end other `keyhold events` commands first',
  },
  ERR_ADMIN_INTERNAL: {
    kind: 'internal',
    summary: 'The daemon failed in a way that nobody foresaw.',
    hint: 'the log of the daemon has the details; please report it',
  },
});

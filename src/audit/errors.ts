// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_AUDIT_OPEN: {
    kind: 'unavailable',
    summary: 'The audit log could not be opened.',
    hint: 'check that the state directory exists and belongs to the daemon',
  },
  ERR_AUDIT_CORRUPT: {
    kind: 'integrity',
    summary: 'The last record of the audit log is corrupt or was tampered with.',
    hint: 'find out who wrote to the file and keep it, moved aside, as evidence; a new log begins',
  },
  ERR_AUDIT_WRITE: {
    kind: 'unavailable',
    summary: 'A record could not be written to the audit log.',
    hint: 'check the disk of the state directory',
  },
  ERR_AUDIT_NO_SPACE: {
    kind: 'no-space',
    summary: 'A record could not be written to the audit log: its file system is full.',
    hint: 'make space on the file system of the state directory; the log goes on by itself',
  },
  ERR_AUDIT_QUEUE_FULL: {
    kind: 'unavailable',
    summary: 'Too many records wait to be written to the audit log.',
    hint: 'the disk of the state directory is too slow or hangs',
  },
  ERR_AUDIT_RECORD: {
    kind: 'invalid',
    summary: 'A record does not fit the audit log: too long, or a field with a reserved name.',
    hint: 'this is a mistake in keyhold; please report it',
  },
  ERR_AUDIT_CLOSED: {
    kind: 'conflict',
    summary: 'The audit log is closed.',
    hint: 'the daemon is stopping',
  },
  ERR_AUDIT_READ: {
    kind: 'unavailable',
    summary: 'The audit log, an export of it or its anchors could not be read.',
    hint: 'check that the file exists and that you may read it',
  },
  ERR_AUDIT_EXPORT_FORM: {
    kind: 'invalid',
    summary: 'The file is no export of the audit log, or another program has laid it out anew.',
    hint: 'verify the file as `keyhold audit export` wrote it; jq and editors change its lines',
  },
  ERR_AUDIT_EXPORT_BUSY: {
    kind: 'unavailable',
    summary: 'Too many exports of the audit log run at the same time.',
    hint: 'wait for the others to end; each reads the whole log twice',
  },
  ERR_AUDIT_ANCHORS: {
    kind: 'invalid',
    summary: 'The file of anchors has none of this audit log, or has those of several logs.',
    hint: 'take the lines of one host: journalctl -t keyhold, or grep audit-anchor in its syslog',
  },
});

// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { auditExportSchema, auditVerifyResultSchema } from '../../admin/api-audit.js';
import {
  checkResultSchema,
  impactSchema,
  purgeReceiptSchema,
  setListSchema,
  setViewSchema,
} from '../../admin/api-sets.js';
import {
  allowResultSchema,
  connectionListSchema,
  diskDetailSchema,
  diskListSchema,
  diskViewSchema,
  eventSchema,
  exportedKeySchema,
  reloadResultSchema,
  statusSchema,
} from '../../admin/api.js';
import {
  commandNodeSchema,
  devSummarySchema,
  doctorOutputSchema,
  drillReportSchema,
  exitCodesSchema,
  exportedSchema,
  fileReportSchema,
  keyInfoSchema,
  platformKeySchema,
  topFrameSchema,
  vaultLogSchema,
  vaultReadySchema,
  vaultStatusSchema,
} from './own-shapes.js';

/** What a command prints with `--json`. */
export interface JsonShape {
  readonly schema: z.ZodType;
  /** When it is this and no other shape of the command's. */
  readonly when?: string;
  /** One such object a line, instead of one document. */
  readonly lines?: true;
}

const nothing = z.object({});

/**
 * By command, every one of them. docs/JSON.md is made of it, and a test holds the output of every
 * command against it.
 */
export const JSON_SHAPES: Readonly<Record<string, readonly JsonShape[]>> = {
  'disk create': [{ schema: diskViewSchema }],
  'disk list': [{ schema: diskListSchema }],
  'disk show': [{ schema: diskDetailSchema }],
  'disk attach': [{ schema: diskViewSchema }],
  'disk detach': [{ schema: diskViewSchema }],
  'disk restart': [{ schema: diskViewSchema }],
  'disk allow': [{ schema: allowResultSchema }],
  'disk move': [{ schema: diskViewSchema }],
  'disk erase': [{ schema: diskViewSchema }],
  'disk export-key': [{ schema: exportedKeySchema }],
  'disk delete': [{ schema: nothing }],
  'set create': [{ schema: setViewSchema }],
  'set update': [{ schema: setViewSchema }],
  'set rotate': [{ schema: setViewSchema }],
  'set assign-key': [{ schema: setViewSchema }],
  'set impact': [{ schema: impactSchema }],
  'set purge': [{ schema: purgeReceiptSchema }],
  'set drill': [{ schema: drillReportSchema }],
  'set list': [{ schema: setListSchema }],
  'set show': [{ schema: setViewSchema }],
  'set check': [{ schema: checkResultSchema }],
  'set delete': [{ schema: nothing }],
  status: [
    { schema: statusSchema, when: 'without --connections' },
    { schema: connectionListSchema, when: 'with --connections' },
  ],
  top: [{ schema: topFrameSchema, lines: true }],
  doctor: [{ schema: doctorOutputSchema }],
  events: [{ schema: eventSchema, lines: true }],
  'audit verify': [
    { schema: auditVerifyResultSchema, when: 'without a file and without --anchors' },
    { schema: fileReportSchema, when: 'with a file or with --anchors' },
  ],
  'audit export': [
    { schema: auditExportSchema, when: 'without --output' },
    { schema: exportedSchema, when: 'with --output' },
  ],
  reload: [{ schema: reloadResultSchema }],
  'platform-key init': [{ schema: platformKeySchema }],
  dev: [{ schema: devSummarySchema, lines: true, when: 'once everything runs, before `ready`' }],
  daemon: [{ schema: z.looseObject({ level: z.number(), msg: z.string() }), lines: true }],
  'vault serve': [{ schema: vaultReadySchema, lines: true, when: 'once it serves' }],
  'vault key create': [{ schema: keyInfoSchema }],
  'vault list': [{ schema: z.object({ keys: z.array(keyInfoSchema) }) }],
  'vault show': [{ schema: keyInfoSchema }],
  'vault status': [{ schema: vaultStatusSchema }],
  'vault log': [{ schema: vaultLogSchema }],
  'vault disable': [{ schema: keyInfoSchema }],
  'vault enable': [{ schema: keyInfoSchema }],
  'vault delete': [{ schema: keyInfoSchema }],
  'vault recover': [{ schema: keyInfoSchema }],
  'vault rotate': [{ schema: keyInfoSchema }],
  'vault purge': [{ schema: nothing }],
  'vault deny': [{ schema: vaultStatusSchema }],
  'vault allow': [{ schema: vaultStatusSchema }],
  'vault recovery-level': [{ schema: vaultStatusSchema }],
  'vault firewall': [{ schema: vaultStatusSchema }],
  'vault application': [{ schema: vaultStatusSchema }],
  'vault expire-tokens': [{ schema: vaultStatusSchema }],
  'vault trouble': [{ schema: vaultStatusSchema }],
  completion: [{ schema: z.object({ shell: z.string(), script: z.string() }) }],
  help: [
    { schema: commandNodeSchema, when: 'for the program, a group or a command' },
    { schema: exitCodesSchema, when: 'for exit-codes' },
  ],
};

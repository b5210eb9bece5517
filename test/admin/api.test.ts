// SPDX-License-Identifier: Apache-2.0
import { test } from 'tap';
import {
  OFFLINE_REASONS,
  type ChangeAllowRequest,
  type CreateDiskRequest,
  type DiskView,
} from '../../src/admin/api.js';
import { type CheckResult, type CreateSetRequest, type SetView } from '../../src/admin/api-sets.js';
import type { CreateDiskOptions } from '../../src/disks/create-disk.js';
import type { AccessChange } from '../../src/disks/disk-access.js';
import { OFFLINE_REASONS as REASONS_OF_DISKS } from '../../src/disks/record.js';
import type { DiskView as ViewOfDisks } from '../../src/disks/view.js';
import type { CreateSetOptions } from '../../src/sets/create-set.js';
import type { SetCheckView, SetView as ViewOfSets } from '../../src/sets/view.js';

// The compiler checks these: what the services give and take is what the API names.
const same = {
  disk: (view: ViewOfDisks): DiskView => view,
  set: (view: ViewOfSets): SetView => view,
  check: (view: SetCheckView): CheckResult => view,
  createDisk: (request: CreateDiskRequest): CreateDiskOptions => request,
  changeAllow: (request: ChangeAllowRequest): AccessChange => request,
  createSet: (request: CreateSetRequest & { identity: string }): CreateSetOptions => request,
};

void test('the reasons are those that disks give', (t) => {
  t.same(OFFLINE_REASONS, REASONS_OF_DISKS);
  t.equal(Object.keys(same).length, 6);
  t.end();
});

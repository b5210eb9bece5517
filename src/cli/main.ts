#!/usr/bin/env -S node --no-experimental-fetch
// SPDX-License-Identifier: Apache-2.0
import { createProcessIo } from './io.js';

const args = process.argv.slice(2);
if (args[0] === 'unwrap-helper') {
  // This process will hold a set key: it loads nothing that it does not need.
  const { runUnwrapChild } = await import('../vault/unwrap-child.js');
  await runUnwrapChild();
} else {
  const { runCli } = await import('./run.js');
  // Not process.exit: output that is still on its way is written first.
  process.exitCode = await runCli(args, createProcessIo());
}

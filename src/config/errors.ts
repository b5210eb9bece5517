// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_CONFIG_READ: {
    kind: 'usage',
    summary: 'The config file could not be read.',
    hint: 'name the file with --config FILE and check that the daemon may read it',
  },
  ERR_CONFIG_SYNTAX: {
    kind: 'usage',
    summary: 'The config file is not TOML.',
    hint: 'the message has line and column; strings need quotes, a table may be opened only once',
  },
  ERR_CONFIG_INVALID: {
    kind: 'usage',
    summary: 'The config file has an unknown field or a value outside its range.',
    hint: 'the message names every field and what was expected; docs/ARCHITECTURE.md lists them all',
  },
});

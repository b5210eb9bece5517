// SPDX-License-Identifier: Apache-2.0
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readVersion } from '../../base/version.js';
import { createContext } from '../context.js';
import { createProcessIo } from '../io.js';
import { createProgram } from '../program.js';
import { readTree } from '../tree.js';
import { manualPage } from './page.js';

/* What `npm run build:man` runs: node dist/cli/manual/main.js FILE */

const [path = 'dist/man/keyhold.1'] = process.argv.slice(2);
await mkdir(dirname(path), { recursive: true });
const program = createProgram(createContext(createProcessIo()));
await writeFile(path, manualPage(readTree(program), readVersion()));

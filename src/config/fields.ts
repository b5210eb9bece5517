// SPDX-License-Identifier: Apache-2.0
import { z } from 'zod';
import { parseAddress } from './address.js';

export const address = z
  .string()
  .refine(
    (text) => parseAddress(text) !== undefined,
    'expected an IP address and a port, such as 127.0.0.1:9754 or [::1]:9754',
  );

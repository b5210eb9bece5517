// SPDX-License-Identifier: Apache-2.0
import { defineErrors } from '../base/errors.js';

export const codes = defineErrors({
  ERR_METRICS_LISTEN: {
    kind: 'conflict',
    summary: 'The address of the metrics could not be listened on.',
    hint: 'see listen in [metrics]: another program has the port, or the address is not ours',
  },
});

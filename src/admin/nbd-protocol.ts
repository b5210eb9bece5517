// SPDX-License-Identifier: Apache-2.0

/** The token of `Upgrade:` that turns an admin connection into an NBD connection. */
export const NBD_PROTOCOL = 'nbd';

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

namespace keyhold {

/// Has connections of `context` look up pre-shared keys through their TlsStream.
///
/// A name that the table does not hold gets a random key, so that its handshake fails exactly as
/// one with a wrong key does (RFC 4279 section 2, RFC 8446 section 4.2.11): who asks learns no
/// names.
void InstallPskCallbacks(SSL_CTX* context);

}  // namespace keyhold

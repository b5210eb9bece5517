// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <string>

#include "core/tls/facts.h"

namespace keyhold {

/// RFC 2253; every byte beyond ASCII and every control character is escaped.
std::string SubjectOf(const X509& certificate);

/// First 16 hex digits of the SHA-256 of a public key: to tell two keys apart in a message.
std::string PublicKeyDigest(EVP_PKEY* key);

/// After a handshake. `psk_identity` is what the client offered and a key was found for; it counts
/// only if the handshake was built on that key.
TlsFacts FactsOf(const SSL* connection, const std::string& psk_identity);

}  // namespace keyhold

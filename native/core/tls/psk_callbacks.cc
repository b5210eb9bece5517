// SPDX-License-Identifier: Apache-2.0
#include "core/tls/psk_callbacks.h"

#include <openssl/rand.h>

#include <array>
#include <cstring>
#include <string_view>

#include "core/tls/openssl_handles.h"
#include "core/tls/stream.h"

namespace keyhold {
namespace {

constexpr size_t kDecoyBytes = 32;  // psktool's default

/// Runs `use` with the key of `identity`, or with a random one.
template <typename Use>
auto WithPsk(SSL* connection, std::string_view identity, Use use) {
  auto* stream = static_cast<TlsStream*>(SSL_get_app_data(connection));
  const SecretBuffer* key = stream->OfferPsk(identity);
  if (key != nullptr) return use(key->bytes());
  std::array<uint8_t, kDecoyBytes> decoy{};
  if (RAND_bytes(decoy.data(), kDecoyBytes) != 1) return use(std::span<const uint8_t>());
  return use(std::span<const uint8_t>(decoy));
}

unsigned int FindKey12(SSL* connection, const char* identity, unsigned char* psk,
                       unsigned int psk_bytes_max) {
  if (identity == nullptr) return 0;
  return WithPsk(connection, identity, [&](std::span<const uint8_t> key) -> unsigned int {
    if (key.size() > psk_bytes_max) return 0;
    if (!key.empty()) SecretCopy({psk, key.size()}, key);
    return static_cast<unsigned int>(key.size());
  });
}

int FindSession13(SSL* connection, const unsigned char* identity, size_t identity_bytes,
                  SSL_SESSION** found) {
  *found = nullptr;
  const std::string_view name(reinterpret_cast<const char*>(identity), identity_bytes);
  return WithPsk(connection, name, [&](std::span<const uint8_t> key) {
    // Of an external key the hash is SHA-256 unless something else was agreed (RFC 8446 4.2.11);
    // the cipher of a session says nothing but that.
    constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};
    SessionPointer session(SSL_SESSION_new());
    const SSL_CIPHER* cipher = SSL_CIPHER_find(connection, kAes128GcmSha256);
    if (key.empty() || session == nullptr || cipher == nullptr ||
        SSL_SESSION_set1_master_key(session.get(), key.data(), key.size()) != 1 ||
        SSL_SESSION_set_cipher(session.get(), cipher) != 1 ||
        SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) != 1) {
      return 0;
    }
    *found = session.release();
    return 1;
  });
}

/// The suite is chosen before the key is looked at, and a SHA-384 suite would make OpenSSL pass
/// over a key of SHA-256 in silence. So a client that offers a key in TLS 1.3 gets those that fit.
int NarrowSuites(SSL* connection, int*, void*) {
  const unsigned char* extension = nullptr;
  size_t bytes = 0;
  if (SSL_client_hello_get0_ext(connection, TLSEXT_TYPE_psk, &extension, &bytes) == 1) {
    constexpr const char* kSha256Suites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
    if (SSL_set_ciphersuites(connection, kSha256Suites) != 1) return SSL_CLIENT_HELLO_ERROR;
  }
  return SSL_CLIENT_HELLO_SUCCESS;
}

}  // namespace

void InstallPskCallbacks(SSL_CTX* context) {
  SSL_CTX_set_psk_server_callback(context, FindKey12);
  SSL_CTX_set_psk_find_session_callback(context, FindSession13);
  SSL_CTX_set_client_hello_cb(context, NarrowSuites, nullptr);
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/tls/psk_table.h"

namespace keyhold {

/// Where the server's TLS material lies. A path that is empty means: none.
struct TlsContextOptions {
  enum class ClientCertificates : uint8_t { kNone, kOptional, kRequired };

  std::string cert_file;  // PEM: the server's certificate, then its intermediates
  std::string key_file;   // PEM, not encrypted
  std::string client_ca_file;
  std::string psk_file;
  /// kRequired asks for a certificate wherever one can be shown: a client that proves a pre-shared
  /// key has proven who it is already.
  ClientCertificates client_certificates = ClientCertificates::kNone;
  bool tls_1_3_only = false;  // else TLS 1.2 is taken too
  std::string ciphers;        // TLS 1.3 suites (TLS_…) to offer in place of the defaults
};

/// Certificate, keys and rules of a TLS server; immutable, shared by the connections that were
/// accepted under it. Replacing it leaves those alone: the last of them frees it.
///
/// TLS 1.2 and later with AEAD suites and forward secrecy; no renegotiation, no compression, no
/// session tickets and no early data: an NBD connection lives long, so that resuming one saves
/// nothing, and tickets are keys that would have to be kept and rotated.
class TlsContext {
 public:
  /// Reads and checks every file. kInvalidArgument or kSystem name the file and what does not fit.
  static Result<std::shared_ptr<const TlsContext>> Load(const TlsContextOptions& options);

  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

  /// A server's connection object; null when there is no memory.
  SSL* NewConnection() const;
  const SecretBuffer* FindPsk(std::string_view identity) const { return psks_.Find(identity); }

 private:
  TlsContext() = default;
  Status SetRules(const TlsContextOptions& options);
  Status UseCertificate(const TlsContextOptions& options);
  Status UseClientCa(const TlsContextOptions& options);
  Status UsePsks(const TlsContextOptions& options);

  SSL_CTX* context_ = nullptr;
  PskTable psks_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "core/tls/openssl_handles.h"
#include "test/plane_fixture.h"

namespace keyhold::test {

/// A certificate with its key.
struct Identity {
  CertificatePointer certificate;
  KeyPointer key;
};

struct IdentitySetup {
  std::string common_name;
  std::string alt_name = {};           // in OpenSSL's syntax: "DNS:a,URI:b"
  bool authority = false;              // basicConstraints CA:TRUE
  std::string purpose = "serverAuth";  // extendedKeyUsage
  long valid_from_s = -3600;           // relative to now
  long valid_to_s = 3600;
  const Identity* issuer = nullptr;  // null: signed by itself
};

Identity MakeIdentity(const IdentitySetup& setup);
void WritePem(const Identity& identity, const std::string& cert_file, const std::string& key_file);
void WriteText(const std::string& path, const std::string& text, uint32_t mode = 0600);

inline constexpr const char* kPskHex =
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Everything that a server and its clients need, in files and in memory.
class TlsWorld {
 public:
  TlsWorld();
  std::string File(const std::string& name) const { return directory_.File(name); }
  /// Server certificate, client CA, PSK file with "alice".
  TlsContextOptions Options() const;

  Identity authority;
  Identity server;
  Identity client;

 private:
  TempDirectory directory_;
};

struct ClientTls {
  const Identity* identity = nullptr;  // null: shows no certificate
  std::string psk_name = {};           // empty: no PSK
  std::string psk_hex = kPskHex;
  int min_version = TLS1_2_VERSION;
  int max_version = TLS1_3_VERSION;
};

using SslPointer = std::shared_ptr<SSL>;
/// A client that has not begun its handshake.
SslPointer MakeClientTls(const ClientTls& setup);
/// Handshakes over a connected, blocking socket; null when that fails.
SslPointer HandshakeOver(int socket, const ClientTls& setup);

/// Connects to a listener of `plane` and handshakes.
struct Attempt {
  UniqueFd socket;
  SslPointer tls;  // null: it failed
};
Attempt ConnectTls(const std::string& path, const ClientTls& setup);
UniqueFd ConnectUnix(const std::string& path);

}  // namespace keyhold::test

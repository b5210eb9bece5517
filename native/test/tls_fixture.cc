// SPDX-License-Identifier: Apache-2.0
#include "test/tls_fixture.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <csignal>
#include <cstring>
#include <fstream>

namespace keyhold::test {
namespace {

void AddExtension(X509* certificate, const X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, const_cast<X509*>(issuer), certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

/// Of the thread that handshakes just now.
thread_local const ClientTls* g_setup = nullptr;

std::vector<unsigned char> KeyOf(const std::string& hex) {
  std::vector<unsigned char> key;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    key.push_back(static_cast<unsigned char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return key;
}

/// OpenSSL uses it for TLS 1.2 and, with SHA-256, for TLS 1.3.
unsigned int GivePsk(SSL*, const char*, char* identity, unsigned int identity_bytes,
                     unsigned char* psk, unsigned int psk_bytes) {
  const std::vector<unsigned char> key = KeyOf(g_setup->psk_hex);
  if (g_setup->psk_name.size() >= identity_bytes || key.size() > psk_bytes) return 0;
  std::strcpy(identity, g_setup->psk_name.c_str());
  std::copy(key.begin(), key.end(), psk);
  return static_cast<unsigned int>(key.size());
}

}  // namespace

Identity MakeIdentity(const IdentitySetup& setup) {
  static std::atomic<long> serial{1};
  Identity made;
  made.key.reset(EVP_EC_gen("P-256"));
  made.certificate.reset(X509_new());
  X509* certificate = made.certificate.get();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
  X509_gmtime_adj(X509_getm_notBefore(certificate), setup.valid_from_s);
  X509_gmtime_adj(X509_getm_notAfter(certificate), setup.valid_to_s);
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto* common_name = reinterpret_cast<const unsigned char*>(setup.common_name.c_str());
  X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("Example"), -1, -1, 0);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, common_name, -1, -1, 0);
  X509_set_pubkey(certificate, made.key.get());
  const X509* issuer = setup.issuer == nullptr ? certificate : setup.issuer->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(issuer));
  AddExtension(certificate, issuer, NID_basic_constraints,
               setup.authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (!setup.authority) AddExtension(certificate, issuer, NID_ext_key_usage, setup.purpose);
  if (!setup.alt_name.empty()) {
    AddExtension(certificate, issuer, NID_subject_alt_name, setup.alt_name);
  }
  X509_sign(certificate, (setup.issuer == nullptr ? made : *setup.issuer).key.get(), EVP_sha256());
  return made;
}

void WritePem(const Identity& identity, const std::string& cert_file, const std::string& key_file) {
  const BioPointer cert(BIO_new_file(cert_file.c_str(), "w"));
  PEM_write_bio_X509(cert.get(), identity.certificate.get());
  WriteText(key_file, "");
  const BioPointer key(BIO_new_file(key_file.c_str(), "w"));
  PEM_write_bio_PrivateKey(key.get(), identity.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
}

void WriteText(const std::string& path, const std::string& text, uint32_t mode) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

TlsWorld::TlsWorld() {
  ::signal(SIGPIPE, SIG_IGN);  // OpenSSL's socket BIO writes without MSG_NOSIGNAL
  authority = MakeIdentity({.common_name = "Test CA", .authority = true});
  server = MakeIdentity(
      {.common_name = "server", .alt_name = "DNS:localhost,IP:127.0.0.1", .issuer = &authority});
  client = MakeIdentity({.common_name = "vm1",
                         .alt_name = "DNS:vm1.example,URI:spiffe://example/vm1,IP:10.0.0.1",
                         .purpose = "clientAuth",
                         .issuer = &authority});
  WritePem(authority, File("ca.pem"), File("ca.key"));
  WritePem(server, File("server.pem"), File("server.key"));
  WriteText(File("psk"), "# clients\nalice:" + std::string(kPskHex) + "\n");
}

TlsContextOptions TlsWorld::Options() const {
  TlsContextOptions options;
  options.cert_file = File("server.pem");
  options.key_file = File("server.key");
  options.client_ca_file = File("ca.pem");
  options.client_certificates = TlsContextOptions::ClientCertificates::kRequired;
  return options;
}

SslPointer MakeClientTls(const ClientTls& setup) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_security_level(context, 0);  // so that TLS 1.1 can be offered
  SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");
  SSL_CTX_set_min_proto_version(context, setup.min_version);
  SSL_CTX_set_max_proto_version(context, setup.max_version);
  if (setup.identity != nullptr) {
    SSL_CTX_use_cert_and_key(context, setup.identity->certificate.get(), setup.identity->key.get(),
                             nullptr, 1);
  }
  if (!setup.psk_name.empty()) SSL_CTX_set_psk_client_callback(context, GivePsk);
  SSL* ssl = SSL_new(context);
  SSL_CTX_free(context);
  SSL_set_connect_state(ssl);
  return SslPointer(ssl, SSL_free);
}

SslPointer HandshakeOver(int socket, const ClientTls& setup) {
  g_setup = &setup;
  SslPointer tls = MakeClientTls(setup);
  SSL_set_fd(tls.get(), socket);
  if (SSL_connect(tls.get()) != 1) {
    ERR_clear_error();
    return nullptr;
  }
  return tls;
}

UniqueFd ConnectUnix(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  timeval limit{20, 0};  // a hang is a failure
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return socket;
}

Attempt ConnectTls(const std::string& path, const ClientTls& setup) {
  Attempt attempt;
  attempt.socket = ConnectUnix(path);
  uint8_t answer = 0;
  EXPECT_EQ(::recv(attempt.socket.get(), &answer, 1, 0), 1);
  EXPECT_EQ(answer, kStartTlsAnswer);
  attempt.tls = HandshakeOver(attempt.socket.get(), setup);
  return attempt;
}

}  // namespace keyhold::test

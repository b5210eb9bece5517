// SPDX-License-Identifier: Apache-2.0
#include "core/tls/context.h"

#include <openssl/pem.h>

#include <utility>

#include "core/keys/openssl_errors.h"
#include "core/tls/facts_of.h"
#include "core/tls/files.h"
#include "core/tls/openssl_handles.h"
#include "core/tls/psk_callbacks.h"

namespace keyhold {
namespace {

/// Depth of a client's chain: leaf, two intermediates, root, and one to spare.
constexpr int kClientChainDepthMax = 4;
/// 112 bits: RSA and DH from 2048 bits, no SHA-1 signatures.
constexpr int kSecurityLevel = 2;

/// TLS 1.2. GnuTLS and OpenSSL clients both have one of these for certificates and for pre-shared
/// keys; plain PSK, which has no forward secrecy, and the CBC suites are left out.
constexpr const char* kCiphers12 =
    "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256:"
    "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-CHACHA20-POLY1305:!aNULL:!aDSS";

Error Invalid(std::string message) { return {ErrorCode::kInvalidArgument, 0, std::move(message)}; }

/// For an encrypted key file: there is nobody to ask.
int NoPassword(char*, int, int, void*) { return -1; }

BioPointer Reader(const TlsFile& file) {
  return BioPointer(BIO_new_mem_buf(file.text().data(), static_cast<int>(file.text().size())));
}

/// Every certificate of a PEM file, in its order.
Result<ChainPointer> ReadCertificates(const char* what, const std::string& path) {
  Result<TlsFile> file = TlsFile::Read(what, path, false);
  if (!file) return file.error();
  const BioPointer reader = Reader(file.value());
  ChainPointer chain(sk_X509_new_null());
  for (;;) {
    X509* one = PEM_read_bio_X509(reader.get(), nullptr, NoPassword, nullptr);
    if (one == nullptr) break;
    sk_X509_push(chain.get(), one);
  }
  const unsigned long error = ERR_peek_last_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (sk_X509_num(chain.get()) == 0 || !at_end) {
    return Invalid(std::string(what) + " " + path + ": certificate " +
                   std::to_string(sk_X509_num(chain.get()) + 1) +
                   " is no certificate in PEM: " + OpensslReason());
  }
  ERR_clear_error();
  return chain;
}

}  // namespace

Result<std::shared_ptr<const TlsContext>> TlsContext::Load(const TlsContextOptions& options) {
  const OpensslErrors errors;
  if (options.cert_file.empty() != options.key_file.empty()) {
    return Invalid("tls: certificate file \"" + options.cert_file + "\" and key file \"" +
                   options.key_file + "\": expected both or none");
  }
  if (options.cert_file.empty() && options.psk_file.empty()) {
    return Invalid("tls: expected a certificate with its key, or a psk file, got neither");
  }
  std::shared_ptr<TlsContext> context(new TlsContext());
  Status done = context->SetRules(options);
  if (done) done = context->UseCertificate(options);
  if (done) done = context->UseClientCa(options);
  if (done) done = context->UsePsks(options);
  if (!done) return done.error();
  return std::shared_ptr<const TlsContext>(std::move(context));
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

SSL* TlsContext::NewConnection() const { return SSL_new(context_); }

Status TlsContext::SetRules(const TlsContextOptions& options) {
  context_ = SSL_CTX_new(TLS_server_method());
  if (context_ == nullptr) return Error{ErrorCode::kNoMemory, 0, "tls: no memory for a context"};
  SSL_CTX_set_security_level(context_, kSecurityLevel);
  SSL_CTX_set_options(context_, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET |
                                    SSL_OP_CLEANSE_PLAINTEXT);
  // A truncated connection is told from one that was ended.
  SSL_CTX_clear_options(context_, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_LEGACY_SERVER_CONNECT);
  SSL_CTX_set_mode(context_, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
  // No session outlives its connection, but OpenSSL wants a name for them.
  constexpr unsigned char kSessionContext[] = "keyhold";
  const bool set =
      SSL_CTX_set_num_tickets(context_, 0) == 1 && SSL_CTX_set_max_early_data(context_, 0) == 1 &&
      SSL_CTX_set_dh_auto(context_, 1) == 1 &&
      SSL_CTX_set_min_proto_version(context_,
                                    options.tls_1_3_only ? TLS1_3_VERSION : TLS1_2_VERSION) == 1 &&
      SSL_CTX_set_session_id_context(context_, kSessionContext, sizeof kSessionContext - 1) == 1 &&
      SSL_CTX_set_cipher_list(context_, kCiphers12) == 1;
  if (!set) return Error{ErrorCode::kCrypto, 0, "tls: OpenSSL refused a rule: " + OpensslReason()};
  if (!options.ciphers.empty() &&
      SSL_CTX_set_ciphersuites(context_, options.ciphers.c_str()) != 1) {
    return Invalid("tls: ciphers \"" + options.ciphers + "\": expected TLS 1.3 suites");
  }
  return Ok();
}

Status TlsContext::UseCertificate(const TlsContextOptions& options) {
  if (options.cert_file.empty()) return Ok();
  Result<ChainPointer> chain = ReadCertificates("certificate file", options.cert_file);
  if (!chain) return chain.error();
  const CertificatePointer leaf(sk_X509_shift(chain.value().get()));
  Result<TlsFile> file = TlsFile::Read("key file", options.key_file, true);
  if (!file) return file.error();
  const BioPointer reader = Reader(file.value());
  const KeyPointer key(PEM_read_bio_PrivateKey(reader.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return Invalid("key file " + options.key_file +
                   ": no private key in PEM without a password: " + OpensslReason());
  }
  if (X509_check_private_key(leaf.get(), key.get()) != 1) {
    return Invalid("certificate file " + options.cert_file + " is of public key " +
                   PublicKeyDigest(X509_get0_pubkey(leaf.get())) + ", key file " +
                   options.key_file + " of " + PublicKeyDigest(key.get()) +
                   ": they do not belong together");
  }
  if (SSL_CTX_use_cert_and_key(context_, leaf.get(), key.get(), chain.value().get(), 1) != 1) {
    return Invalid("certificate file " + options.cert_file +
                   ": cannot be a server's: " + OpensslReason());
  }
  return Ok();
}

Status TlsContext::UseClientCa(const TlsContextOptions& options) {
  using Mode = TlsContextOptions::ClientCertificates;
  if (options.client_certificates == Mode::kNone) return Ok();
  if (options.client_ca_file.empty() || options.cert_file.empty()) {
    return Invalid(
        "tls: client certificates are asked for: expected a client CA file and a certificate of "
        "the server, got " +
        std::string(options.client_ca_file.empty() ? "no client CA file" : "no certificate"));
  }
  Result<ChainPointer> authorities = ReadCertificates("client CA file", options.client_ca_file);
  if (!authorities) return authorities.error();
  X509_STORE* store = SSL_CTX_get_cert_store(context_);
  for (int i = 0; i < sk_X509_num(authorities.value().get()); ++i) {
    X509* authority = sk_X509_value(authorities.value().get(), i);
    if (X509_check_ca(authority) == 0) {
      return Invalid("client CA file " + options.client_ca_file + ": certificate " +
                     std::to_string(i + 1) + " (" + SubjectOf(*authority) +
                     ") is no authority's (CA:TRUE is missing)");
    }
    if (X509_STORE_add_cert(store, authority) != 1 ||
        SSL_CTX_add_client_CA(context_, authority) != 1) {
      return Invalid("client CA file " + options.client_ca_file + ": " + OpensslReason());
    }
  }
  SSL_CTX_set_purpose(context_, X509_PURPOSE_SSL_CLIENT);
  SSL_CTX_set_verify_depth(context_, kClientChainDepthMax);
  const int required =
      options.client_certificates == Mode::kRequired ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
  SSL_CTX_set_verify(context_, SSL_VERIFY_PEER | required, nullptr);
  return Ok();
}

Status TlsContext::UsePsks(const TlsContextOptions& options) {
  if (options.psk_file.empty()) return Ok();
  Result<TlsFile> file = TlsFile::Read("psk file", options.psk_file, true);
  if (!file) return file.error();
  Result<PskTable> psks = PskTable::Parse(options.psk_file, file.value().text());
  if (!psks) return psks.error();
  psks_ = psks.Take();
  InstallPskCallbacks(context_);
  return Ok();
}

}  // namespace keyhold

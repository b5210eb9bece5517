// SPDX-License-Identifier: Apache-2.0
#include "core/tls/facts_of.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "core/tls/openssl_handles.h"

namespace keyhold {
namespace {

/// More names than any certificate of a client needs: what does not fit cannot be allowed anything.
constexpr int kAltNamesMax = 64;
constexpr size_t kKeyDigestDigits = 16;

std::string Hex(const unsigned char* bytes, size_t count) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    text.push_back(kDigits[bytes[i] >> 4]);
    text.push_back(kDigits[bytes[i] & 15]);
  }
  return text;
}

std::string AddressText(const ASN1_OCTET_STRING* address) {
  const unsigned char* bytes = ASN1_STRING_get0_data(address);
  const int length = ASN1_STRING_length(address);
  char text[INET6_ADDRSTRLEN] = "";
  if (length == 4) ::inet_ntop(AF_INET, bytes, text, sizeof text);
  if (length == 16) ::inet_ntop(AF_INET6, bytes, text, sizeof text);
  return text;
}

/// Empty for a kind of name that we do not carry, and for one with anything but printable ASCII (a
/// zero byte inside a name has fooled comparisons before).
std::string AltName(const GENERAL_NAME* name) {
  int kind = 0;
  const void* value = GENERAL_NAME_get0_value(name, &kind);
  std::string text;
  if (kind == GEN_IPADD) {
    text = AddressText(static_cast<const ASN1_OCTET_STRING*>(value));
    return text.empty() ? text : "IP:" + text;
  }
  const char* prefix = kind == GEN_DNS ? "DNS:" : kind == GEN_URI ? "URI:" : "email:";
  if (kind != GEN_DNS && kind != GEN_URI && kind != GEN_EMAIL) return text;
  const auto* string = static_cast<const ASN1_IA5STRING*>(value);
  const char* bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(string));
  text.assign(bytes, static_cast<size_t>(ASN1_STRING_length(string)));
  const auto printable = [](char c) { return c > ' ' && c <= '~'; };
  if (!std::all_of(text.begin(), text.end(), printable)) return {};
  return prefix + text;
}

std::vector<std::string> AltNames(const X509& certificate) {
  std::vector<std::string> names;
  auto* all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < std::min(sk_GENERAL_NAME_num(all), kAltNamesMax); ++i) {
    std::string name = AltName(sk_GENERAL_NAME_value(all, i));
    if (!name.empty()) names.push_back(std::move(name));
  }
  GENERAL_NAMES_free(all);
  return names;
}

bool UsedPsk(const SSL* connection) {
  if (SSL_version(connection) == TLS1_3_VERSION) return SSL_session_reused(connection) == 1;
  return SSL_CIPHER_get_auth_nid(SSL_get_current_cipher(connection)) == NID_auth_psk;
}

}  // namespace

std::string SubjectOf(const X509& certificate) {
  const BioPointer out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_subject_name(&certificate), 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long length = BIO_get_mem_data(out.get(), &text);
  return length > 0 ? std::string(text, static_cast<size_t>(length)) : std::string();
}

std::string PublicKeyDigest(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int length = i2d_PUBKEY(key, &der);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int bytes = 0;
  if (length > 0) {
    EVP_Digest(der, static_cast<size_t>(length), digest.data(), &bytes, EVP_sha256(), nullptr);
  }
  OPENSSL_free(der);
  return Hex(digest.data(), bytes).substr(0, kKeyDigestDigits);
}

TlsFacts FactsOf(const SSL* connection, const std::string& psk_identity) {
  TlsFacts facts;
  facts.version = SSL_get_version(connection);
  facts.cipher = SSL_get_cipher_name(connection);
  const X509* peer = SSL_get0_peer_certificate(connection);
  if (peer != nullptr && SSL_get_verify_result(connection) == X509_V_OK) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int bytes = 0;
    X509_digest(peer, EVP_sha256(), digest.data(), &bytes);
    facts.certificate = {SubjectOf(*peer), AltNames(*peer), Hex(digest.data(), bytes)};
  }
  if (UsedPsk(connection)) facts.psk_identity = psk_identity;
  return facts;
}

}  // namespace keyhold

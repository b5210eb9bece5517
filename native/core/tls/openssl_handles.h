// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

namespace keyhold {

/// Frees an OpenSSL object by its own function.
template <auto kFree>
struct OpensslFree {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

inline void FreeX509Stack(STACK_OF(X509) * stack) { sk_X509_pop_free(stack, X509_free); }

using BioPointer = std::unique_ptr<BIO, OpensslFree<BIO_free_all>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using CertificatePointer = std::unique_ptr<X509, OpensslFree<X509_free>>;
using ChainPointer = std::unique_ptr<STACK_OF(X509), OpensslFree<FreeX509Stack>>;
using SessionPointer = std::unique_ptr<SSL_SESSION, OpensslFree<SSL_SESSION_free>>;

/// What the thread's first error says, in OpenSSL's words.
inline std::string OpensslReason() {
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  return reason != nullptr ? reason : "unknown error";
}

/// What its last error says: where one step's failure made another fail, the outermost.
inline std::string OpensslOutcome() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason != nullptr ? reason : "unknown error";
}

}  // namespace keyhold

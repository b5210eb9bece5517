// SPDX-License-Identifier: Apache-2.0
#include "core/keys/rsa_wrap.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

#include <memory>
#include <string>

#include "core/keys/openssl_errors.h"

namespace keyhold {
namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Number = std::unique_ptr<BIGNUM, Free<BN_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Free<OSSL_PARAM_BLD_free>>;
using Parameters = std::unique_ptr<OSSL_PARAM, Free<OSSL_PARAM_free>>;
using Context = std::unique_ptr<EVP_PKEY_CTX, Free<EVP_PKEY_CTX_free>>;
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;

constexpr size_t kNumberBytesMax = 4096 / 8 + 1;  // the largest modulus and one leading zero byte
constexpr int kExponentBitsMax = 64;              // OpenSSL's own bound for moduli above 3072 bits

Error Refuse(const std::string& message) {
  return Error{ErrorCode::kInvalidArgument, 0, "wrap set key: " + message};
}

Error CryptoError() {
  return Error{ErrorCode::kCrypto, 0, "wrap set key: openssl refused the operation"};
}

Status CheckPublicKey(const BIGNUM* modulus, const BIGNUM* exponent) {
  const int bits = BN_num_bits(modulus);
  if (bits != 2048 && bits != 3072 && bits != 4096) {
    return Refuse("rsa modulus has " + std::to_string(bits) + " bits, expected 2048, 3072 or 4096");
  }
  if (BN_is_odd(modulus) == 0) return Refuse("rsa modulus is even");
  // An exponent of 1 would leave the padded set key as it is.
  const int exponent_bits = BN_num_bits(exponent);
  if (BN_is_odd(exponent) == 0 || exponent_bits < 2 || exponent_bits > kExponentBitsMax) {
    return Refuse("rsa exponent has " + std::to_string(exponent_bits) +
                  " bits, expected an odd number of 2 to " + std::to_string(kExponentBitsMax) +
                  " bits");
  }
  return Ok();
}

Key BuildPublicKey(const BIGNUM* modulus, const BIGNUM* exponent) {
  const Builder builder(OSSL_PARAM_BLD_new());
  if (builder == nullptr ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent) != 1) {
    return nullptr;
  }
  const Parameters parameters(OSSL_PARAM_BLD_to_param(builder.get()));
  const Context context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  EVP_PKEY* key = nullptr;
  if (parameters == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    return nullptr;
  }
  return Key(key);
}

}  // namespace

Result<std::vector<uint8_t>> RsaOaepWrap(std::span<const uint8_t> modulus,
                                         std::span<const uint8_t> exponent,
                                         std::span<const uint8_t> secret) {
  const OpensslErrors errors;
  if (modulus.size() > kNumberBytesMax || exponent.size() > kNumberBytesMax) {
    return Refuse("rsa public key numbers have " + std::to_string(modulus.size()) + " and " +
                  std::to_string(exponent.size()) + " bytes, at most " +
                  std::to_string(kNumberBytesMax) + " each possible");
  }
  const Number n(BN_bin2bn(modulus.data(), static_cast<int>(modulus.size()), nullptr));
  const Number e(BN_bin2bn(exponent.data(), static_cast<int>(exponent.size()), nullptr));
  if (n == nullptr || e == nullptr) return CryptoError();
  if (const Status checked = CheckPublicKey(n.get(), e.get()); !checked) return checked.error();

  const Key key = BuildPublicKey(n.get(), e.get());
  if (key == nullptr) return CryptoError();
  const Context context(EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr));
  size_t length = 0;
  if (context == nullptr || EVP_PKEY_encrypt_init(context.get()) != 1 ||
      EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) != 1 ||
      EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), EVP_sha256()) != 1 ||
      EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), EVP_sha256()) != 1 ||
      EVP_PKEY_encrypt(context.get(), nullptr, &length, secret.data(), secret.size()) != 1) {
    return CryptoError();
  }
  std::vector<uint8_t> wrapped(length);
  if (EVP_PKEY_encrypt(context.get(), wrapped.data(), &length, secret.data(), secret.size()) != 1) {
    return CryptoError();
  }
  wrapped.resize(length);
  return wrapped;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/keys/seal.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include "core/keys/openssl_errors.h"

namespace keyhold {
namespace {

constexpr size_t kAadBytesMax = 4096;  // ours is below 200 bytes

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
// Freeing zeroes the expanded key and the GHASH table (aes_gcm_freectx: OPENSSL_clear_free).
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

Error CryptoError(const char* operation) {
  return Error{ErrorCode::kCrypto, 0, std::string(operation) + ": openssl refused the operation"};
}

Status CheckAad(const SealSubject& subject) {
  if (subject.aad.size() <= kAadBytesMax) return Ok();
  return Error{ErrorCode::kInvalidArgument, 0,
               std::string(subject.operation) + ": additional data has " +
                   std::to_string(subject.aad.size()) + " bytes, at most " +
                   std::to_string(kAadBytesMax) + " allowed"};
}

bool AddAad(EVP_CIPHER_CTX* context, std::span<const uint8_t> aad) {
  int written = 0;
  return aad.empty() || EVP_CipherUpdate(context, nullptr, &written, aad.data(),
                                         static_cast<int>(aad.size())) == 1;
}

}  // namespace

Status SealBytes(std::span<const uint8_t> key, const SealSubject& subject,
                 std::span<const uint8_t> plaintext, const SealedParts& out) {
  const OpensslErrors errors;
  if (key.size() != 32 || plaintext.size() != out.ciphertext.size()) std::abort();
  if (const Status checked = CheckAad(subject); !checked) return checked;
  const Context context(EVP_CIPHER_CTX_new());
  int written = 0;
  if (context == nullptr || RAND_bytes(out.nonce.data(), static_cast<int>(out.nonce.size())) != 1 ||
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(), out.nonce.data()) !=
          1 ||
      !AddAad(context.get(), subject.aad) ||
      EVP_EncryptUpdate(context.get(), out.ciphertext.data(), &written, plaintext.data(),
                        static_cast<int>(plaintext.size())) != 1 ||
      EVP_EncryptFinal_ex(context.get(), out.ciphertext.data() + written, &written) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(out.tag.size()),
                          out.tag.data()) != 1) {
    return CryptoError(subject.operation);
  }
  return Ok();
}

Status OpenBytes(std::span<const uint8_t> key, const SealSubject& subject, const SealedView& sealed,
                 std::span<uint8_t> out) {
  const OpensslErrors errors;
  if (key.size() != 32 || sealed.ciphertext.size() != out.size()) std::abort();
  if (const Status checked = CheckAad(subject); !checked) return checked;
  const Context context(EVP_CIPHER_CTX_new());
  std::array<uint8_t, 16> tag{};  // OpenSSL takes it as a non-const pointer
  std::copy(sealed.tag.begin(), sealed.tag.end(), tag.begin());
  int written = 0;
  if (context == nullptr ||
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key.data(),
                         sealed.nonce.data()) != 1 ||
      !AddAad(context.get(), subject.aad) ||
      EVP_DecryptUpdate(context.get(), out.data(), &written, sealed.ciphertext.data(),
                        static_cast<int>(sealed.ciphertext.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag.size()),
                          tag.data()) != 1) {
    return CryptoError(subject.operation);
  }
  if (EVP_DecryptFinal_ex(context.get(), out.data() + written, &written) != 1) {
    return Error{ErrorCode::kUnseal, 0,
                 std::string(subject.operation) + ": data is corrupt or was tampered with"};
  }
  return Ok();
}

}  // namespace keyhold

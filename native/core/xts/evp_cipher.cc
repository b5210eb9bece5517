// SPDX-License-Identifier: Apache-2.0
#include "core/xts/evp_cipher.h"

#include <openssl/evp.h>

#include <cstdlib>
#include <utility>

#include "core/secret/secret_buffer.h"

namespace keyhold::xts {
namespace {

/// Fetched once: an implicit fetch at each call takes a lock that all shards would share.
EVP_CIPHER* Algorithm() {
  static EVP_CIPHER* const kAlgorithm = EVP_CIPHER_fetch(nullptr, "AES-256-XTS", nullptr);
  return kAlgorithm;
}

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};

/// OpenSSL keeps an expanded schedule on its ordinary heap. So a context lives for one run only:
/// between calls the key lies in secret memory and nowhere else. EVP_CIPHER_CTX_free zeroes the
/// schedule (aes_xts_freectx ends in OPENSSL_clear_free); memory_residue_test proves it. The price
/// is a key expansion per run.
class EvpCipher final : public Cipher {
 public:
  EvpCipher(SecretBuffer dek, uint32_t sector_size_bytes)
      : dek_(std::move(dek)), sector_size_bytes_(sector_size_bytes) {}

  void EncryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    Run(in, out, length_bytes, first_unit, 1);
  }

  void DecryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    Run(in, out, length_bytes, first_unit, 0);
  }

  void Wipe() override { dek_.Wipe(); }

  std::string_view kernel() const override { return "evp"; }

 private:
  // OpenSSL refuses here only when memory is exhausted. There is no way on: returning would hand
  // plaintext, or an old buffer's bytes, to the store as if they were ciphertext.
  static void Require(bool holds) {
    if (!holds) std::abort();
  }

  void Run(const uint8_t* in, uint8_t* out, size_t length_bytes, uint64_t first_unit,
           int encrypt) const {
    Require(length_bytes % sector_size_bytes_ == 0);
    const std::unique_ptr<EVP_CIPHER_CTX, FreeContext> context(EVP_CIPHER_CTX_new());
    Require(context != nullptr);
    Require(EVP_CipherInit_ex(context.get(), Algorithm(), nullptr, dek_.bytes().data(), nullptr,
                              encrypt) == 1);
    uint64_t unit = first_unit;
    for (size_t done = 0; done < length_bytes; done += sector_size_bytes_) {
      uint8_t tweak[16] = {};
      for (int i = 0; i < 8; ++i) tweak[i] = static_cast<uint8_t>(unit >> (8 * i));
      int written = 0;
      Require(EVP_CipherInit_ex(context.get(), nullptr, nullptr, nullptr, tweak, -1) == 1);
      Require(EVP_CipherUpdate(context.get(), out + done, &written, in + done,
                               static_cast<int>(sector_size_bytes_)) == 1);
      Require(written == static_cast<int>(sector_size_bytes_));
      unit += sector_size_bytes_ / 512;
    }
  }

  SecretBuffer dek_;
  uint32_t sector_size_bytes_;
};

}  // namespace

Result<std::unique_ptr<Cipher>> CreateEvpCipher(std::span<const uint8_t> dek,
                                                uint32_t sector_size_bytes) {
  if (Algorithm() == nullptr) {
    return Error{ErrorCode::kCrypto, 0, "create cipher: openssl offers no AES-256-XTS"};
  }
  auto copy = SecretBuffer::Allocate(dek.size());
  if (!copy) return copy.error();
  SecretCopy(copy.value().bytes(), dek);
  return std::unique_ptr<Cipher>(new EvpCipher(copy.Take(), sector_size_bytes));
}

}  // namespace keyhold::xts

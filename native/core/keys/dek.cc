// SPDX-License-Identifier: Apache-2.0
#include "core/keys/dek.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <memory>
#include <string>

#include "core/keys/openssl_errors.h"

namespace keyhold {
namespace {

constexpr uint32_t kIterations = 1000;  // the DEK has 512 random bits: iterations add nothing
constexpr uint32_t kIterationsMin = 1000;
// A header is input: a hostile count may not hold a thread for longer than a few seconds.
constexpr uint32_t kIterationsMax = 10'000'000;
constexpr size_t kAadBytesMax = 4096;  // ours is below 200 bytes

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
// Freeing zeroes the expanded key and the GHASH table (aes_gcm_freectx: OPENSSL_clear_free).
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

Error CryptoError(const char* operation) {
  return Error{ErrorCode::kCrypto, 0, std::string(operation) + ": openssl refused the operation"};
}

Status CheckAad(const char* operation, std::span<const uint8_t> aad) {
  if (aad.size() <= kAadBytesMax) return Ok();
  return Error{ErrorCode::kInvalidArgument, 0,
               std::string(operation) + ": additional data has " + std::to_string(aad.size()) +
                   " bytes, at most " + std::to_string(kAadBytesMax) + " allowed"};
}

bool AddAad(EVP_CIPHER_CTX* context, std::span<const uint8_t> aad) {
  int written = 0;
  return aad.empty() || EVP_CipherUpdate(context, nullptr, &written, aad.data(),
                                         static_cast<int>(aad.size())) == 1;
}

/// RFC 8018 section 5.2 with HMAC-SHA-256. Sound as a fingerprint of the DEK: finding another
/// preimage means breaking HMAC-SHA-256, guessing this one means guessing 512 random bits.
bool Pbkdf2(std::span<const uint8_t> dek, const DekDigest& parameters, std::span<uint8_t> out) {
  const OpensslErrors errors;
  return PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(dek.data()), static_cast<int>(dek.size()),
                           parameters.salt.data(), static_cast<int>(parameters.salt.size()),
                           static_cast<int>(parameters.iterations), EVP_sha256(),
                           static_cast<int>(out.size()), out.data()) == 1;
}

}  // namespace

Result<SecretBuffer> GenerateDek() {
  const OpensslErrors errors;
  auto dek = SecretBuffer::Allocate(xts::kDekBytes);
  if (!dek) return dek.error();
  const std::span<uint8_t> bytes = dek.value().bytes();
  // Equal halves (chance 2^-256) would mean a broken generator: an error, not a second try.
  if (RAND_priv_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1 ||
      SecretEqual(bytes.first(xts::kDekBytes / 2), bytes.last(xts::kDekBytes / 2))) {
    return CryptoError("generate dek");
  }
  return dek;
}

/// AES-256-GCM with a random 96-bit nonce. Sound while one set key seals fewer than 2^32 DEKs (NIST
/// SP 800-38D section 8.3); a set holds at most thousands of disks.
Result<SealedDek> SealDek(std::span<const uint8_t> set_key, std::span<const uint8_t> dek,
                          std::span<const uint8_t> aad) {
  const OpensslErrors errors;
  if (const Status checked = CheckAad("seal dek", aad); !checked) return checked.error();
  SealedDek sealed{};
  if (dek.size() != sealed.ciphertext.size()) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "seal dek: " + std::to_string(dek.size()) + " bytes given, expected " +
                     std::to_string(sealed.ciphertext.size())};
  }
  const Context context(EVP_CIPHER_CTX_new());
  int written = 0;
  if (context == nullptr ||
      RAND_bytes(sealed.nonce.data(), static_cast<int>(sealed.nonce.size())) != 1 ||
      EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, set_key.data(),
                         sealed.nonce.data()) != 1 ||
      !AddAad(context.get(), aad) ||
      EVP_EncryptUpdate(context.get(), sealed.ciphertext.data(), &written, dek.data(),
                        static_cast<int>(dek.size())) != 1 ||
      EVP_EncryptFinal_ex(context.get(), sealed.ciphertext.data() + written, &written) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(sealed.tag.size()),
                          sealed.tag.data()) != 1) {
    return CryptoError("seal dek");
  }
  return sealed;
}

Result<SecretBuffer> UnsealDek(std::span<const uint8_t> set_key, const SealedDek& sealed,
                               std::span<const uint8_t> aad) {
  const OpensslErrors errors;
  if (const Status checked = CheckAad("open sealed dek", aad); !checked) return checked.error();
  auto dek = SecretBuffer::Allocate(xts::kDekBytes);
  if (!dek) return dek.error();
  uint8_t* const out = dek.value().bytes().data();
  const Context context(EVP_CIPHER_CTX_new());
  std::array<uint8_t, 16> tag = sealed.tag;  // OpenSSL takes it as a non-const pointer
  int written = 0;
  if (context == nullptr ||
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, set_key.data(),
                         sealed.nonce.data()) != 1 ||
      !AddAad(context.get(), aad) ||
      EVP_DecryptUpdate(context.get(), out, &written, sealed.ciphertext.data(),
                        static_cast<int>(sealed.ciphertext.size())) != 1 ||
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag.size()),
                          tag.data()) != 1) {
    return CryptoError("open sealed dek");
  }
  // What was decrypted without proof is wiped with the buffer.
  if (EVP_DecryptFinal_ex(context.get(), out + written, &written) != 1) {
    return Error{ErrorCode::kUnseal, 0, "open sealed dek: data is corrupt or was tampered with"};
  }
  return dek;
}

Result<DekDigest> DigestDek(std::span<const uint8_t> dek) {
  DekDigest digest{};
  digest.iterations = kIterations;
  if (RAND_bytes(digest.salt.data(), static_cast<int>(digest.salt.size())) != 1 ||
      !Pbkdf2(dek, digest, digest.digest)) {
    return CryptoError("digest dek");
  }
  return digest;
}

Status CheckDekDigest(std::span<const uint8_t> dek, const DekDigest& digest) {
  if (digest.iterations < kIterationsMin || digest.iterations > kIterationsMax) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "check dek digest: " + std::to_string(digest.iterations) +
                     " iterations, expected " + std::to_string(kIterationsMin) + " to " +
                     std::to_string(kIterationsMax)};
  }
  std::array<uint8_t, 32> actual{};
  if (!Pbkdf2(dek, digest, actual)) return CryptoError("check dek digest");
  if (!SecretEqual(actual, digest.digest)) {
    return Error{ErrorCode::kDigest, 0,
                 "check dek digest: the dek is not the one that the header describes"};
  }
  return Ok();
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/keys/dek.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <string>

#include "core/keys/key_file.h"
#include "core/keys/openssl_errors.h"

namespace keyhold {
namespace {

constexpr uint32_t kIterations = 1000;  // the DEK has 512 random bits: iterations add nothing
constexpr uint32_t kIterationsMin = 1000;
// A header is input: a hostile count may not hold a thread for longer than a few seconds.
constexpr uint32_t kIterationsMax = 10'000'000;

Error CryptoError(const char* operation) {
  return Error{ErrorCode::kCrypto, 0, std::string(operation) + ": openssl refused the operation"};
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

Result<SealedDek> SealDek(std::span<const uint8_t> key, std::span<const uint8_t> dek,
                          std::span<const uint8_t> aad) {
  SealedDek sealed{};
  if (dek.size() != sealed.ciphertext.size()) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "seal dek: " + std::to_string(dek.size()) + " bytes given, expected " +
                     std::to_string(sealed.ciphertext.size())};
  }
  const Status done =
      SealBytes(key, {"seal dek", aad}, dek, {sealed.nonce, sealed.ciphertext, sealed.tag});
  if (!done) return done.error();
  return sealed;
}

Result<SecretBuffer> UnsealDek(std::span<const uint8_t> key, const SealedDek& sealed,
                               std::span<const uint8_t> aad) {
  auto dek = SecretBuffer::Allocate(xts::kDekBytes);
  if (!dek) return dek.error();
  // What was decrypted without proof is wiped with the buffer.
  const Status done = OpenBytes(key, {"open sealed dek", aad},
                                {sealed.nonce, sealed.ciphertext, sealed.tag}, dek.value().bytes());
  if (!done) return done.error();
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

Result<NewDek> CreateDekWith(
    const std::function<Result<SealedDek>(std::span<const uint8_t> dek)>& seal) {
  const auto dek = GenerateDek();
  if (!dek) return dek.error();
  const auto digest = DigestDek(dek.value().bytes());
  if (!digest) return digest.error();
  const auto sealed = seal(dek.value().bytes());
  if (!sealed) return sealed.error();
  return NewDek{sealed.value(), digest.value()};
}

Result<SecretBuffer> OpenDekWith(const std::function<Result<SecretBuffer>()>& unseal,
                                 const DekDigest& digest) {
  auto dek = unseal();
  if (!dek) return dek;
  if (const Status checked = CheckDekDigest(dek.value().bytes(), digest); !checked) {
    return checked.error();
  }
  return dek;
}

Status WriteDekFile(const Result<SecretBuffer>& dek, const std::string& path) {
  if (!dek) return dek.error();
  return WriteNewKeyFile("write " + path, path, dek.value().bytes());
}

}  // namespace keyhold

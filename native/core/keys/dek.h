// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/base/result.h"
#include "core/secret/secret_buffer.h"
#include "core/xts/cipher.h"

namespace keyhold {

/// A DEK under AES-256-GCM with the set key.
struct SealedDek {
  std::array<uint8_t, 12> nonce;
  std::array<uint8_t, xts::kDekBytes> ciphertext;
  std::array<uint8_t, 16> tag;
};

/// The LUKS2 digest of a DEK: PBKDF2-HMAC-SHA256 (reference/luks2.md).
struct DekDigest {
  std::array<uint8_t, 32> salt;
  uint32_t iterations;
  std::array<uint8_t, 32> digest;
};

/// A fresh random DEK in secret memory; its halves differ.
Result<SecretBuffer> GenerateDek();

Result<SealedDek> SealDek(std::span<const uint8_t> set_key, std::span<const uint8_t> dek,
                          std::span<const uint8_t> aad);

/// kUnseal when nonce, ciphertext, tag, AAD or key do not belong together.
Result<SecretBuffer> UnsealDek(std::span<const uint8_t> set_key, const SealedDek& sealed,
                               std::span<const uint8_t> aad);

Result<DekDigest> DigestDek(std::span<const uint8_t> dek);

/// kDigest when `dek` is not the one that `digest` describes.
Status CheckDekDigest(std::span<const uint8_t> dek, const DekDigest& digest);

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "core/base/result.h"
#include "core/keys/seal.h"
#include "core/secret/secret_buffer.h"
#include "core/xts/cipher.h"

namespace keyhold {

/// A DEK under AES-256-GCM with a set key or the platform key.
using SealedDek = Sealed<xts::kDekBytes>;

/// The LUKS2 digest of a DEK: PBKDF2-HMAC-SHA256 (reference/luks2.md).
struct DekDigest {
  std::array<uint8_t, 32> salt;
  uint32_t iterations;
  std::array<uint8_t, 32> digest;
};

/// A fresh random DEK in secret memory; its halves differ.
Result<SecretBuffer> GenerateDek();

/// `key` is a set key or a platform key, 32 bytes.
Result<SealedDek> SealDek(std::span<const uint8_t> key, std::span<const uint8_t> dek,
                          std::span<const uint8_t> aad);

/// kUnseal when nonce, ciphertext, tag, AAD or key do not belong together.
Result<SecretBuffer> UnsealDek(std::span<const uint8_t> key, const SealedDek& sealed,
                               std::span<const uint8_t> aad);

Result<DekDigest> DigestDek(std::span<const uint8_t> dek);

/// kDigest when `dek` is not the one that `digest` describes.
Status CheckDekDigest(std::span<const uint8_t> dek, const DekDigest& digest);

struct NewDek {
  SealedDek sealed;
  DekDigest digest;
};

/// Generates a DEK, computes its digest, has `seal` seal it, wipes it.
Result<NewDek> CreateDekWith(
    const std::function<Result<SealedDek>(std::span<const uint8_t> dek)>& seal);

/// What `unseal` gives, when it is the DEK that `digest` describes.
Result<SecretBuffer> OpenDekWith(const std::function<Result<SecretBuffer>()>& unseal,
                                 const DekDigest& digest);

/// Writes a DEK that could be opened to a new file, raw, as `cryptsetup --volume-key-file` wants
/// it.
Status WriteDekFile(const Result<SecretBuffer>& dek, const std::string& path);

}  // namespace keyhold

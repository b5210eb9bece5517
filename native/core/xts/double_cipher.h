// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

/// What lies between the start of the outer container's data and the start of the inner one's: the
/// inner container's LUKS2 header (docs/KEYS.md section 4). Sector n of the disk is 32768 units
/// further on for the outer pass.
inline constexpr uint64_t kInnerHeaderBytes = uint64_t{16} << 20;
inline constexpr uint64_t kInnerHeaderUnits = kInnerHeaderBytes / 512;

/// Double encryption: two independent XTS passes, the inner one nearer to the plaintext. Encrypts
/// with the inner, then the outer DEK; what the store holds is the outer pass's ciphertext, so that
/// a hole is a sector of zero *outer* ciphertext. `first_unit` counts as for a single cipher, from
/// the start of the disk's data.
///
/// Besides what CreateCipher refuses, DEKs that share their data key or their tweak key are
/// (kInvalidArgument): the passes would not be independent.
Result<std::unique_ptr<Cipher>> CreateDoubleCipher(std::string_view kernel,
                                                   std::span<const uint8_t> inner_dek,
                                                   std::span<const uint8_t> outer_dek,
                                                   uint32_t sector_size_bytes);

}  // namespace keyhold::xts

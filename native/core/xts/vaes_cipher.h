// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

/// True when CPU and operating system carry the 512-bit kernel: VAES and VPCLMULQDQ on AVX-512.
bool HasVaes512();

/// The same for the 256-bit kernel: VAES and VPCLMULQDQ on AVX2 (Zen 3, Alder Lake).
bool HasVaes256();

/// XTS on vectors of four and of two blocks, eight vectors at a time. Call only where the function
/// above is true; `dek` and `sector_size_bytes` were checked.
Result<std::unique_ptr<Cipher>> CreateVaes512Cipher(std::span<const uint8_t> dek,
                                                    uint32_t sector_size_bytes);
Result<std::unique_ptr<Cipher>> CreateVaes256Cipher(std::span<const uint8_t> dek,
                                                    uint32_t sector_size_bytes);

}  // namespace keyhold::xts

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

/// The portable reference kernel: OpenSSL's AES-256-XTS. `dek` and `sector_size_bytes` were
/// checked.
Result<std::unique_ptr<Cipher>> CreateEvpCipher(std::span<const uint8_t> dek,
                                                uint32_t sector_size_bytes);

}  // namespace keyhold::xts

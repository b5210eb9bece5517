// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

/// True when this CPU has the instructions of the AES-NI kernel.
bool HasAesni();

/// XTS on AES-NI, eight blocks at a time. Call only where HasAesni() is true; `dek` and
/// `sector_size_bytes` were checked.
Result<std::unique_ptr<Cipher>> CreateAesniCipher(std::span<const uint8_t> dek,
                                                  uint32_t sector_size_bytes);

}  // namespace keyhold::xts

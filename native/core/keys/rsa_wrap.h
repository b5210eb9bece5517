// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"

namespace keyhold {

/// RSA-OAEP-256 (RFC 8017 section 7.1; SHA-256 for hash and MGF1, empty label) of `secret` under
/// the public key (n, e big-endian). kInvalidArgument for a key that Key Vault would not make.
Result<std::vector<uint8_t>> RsaOaepWrap(std::span<const uint8_t> modulus,
                                         std::span<const uint8_t> exponent,
                                         std::span<const uint8_t> secret);

}  // namespace keyhold

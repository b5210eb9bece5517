// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)

#include <emmintrin.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

inline constexpr int kRounds = 14;  // AES-256 (FIPS 197 section 5)

/// The round keys of one DEK; lies in secret memory. Decryption needs its own (FIPS 197 section
/// 5.3.5).
struct Schedule {
  __m128i data_encrypt[kRounds + 1];
  __m128i data_decrypt[kRounds + 1];
  __m128i tweak_encrypt[kRounds + 1];
};

/// A kernel that works from a Schedule. Both functions take whole sectors and clear the vector
/// registers at the end; the caller clears their stack. No branch and no address in them depends on
/// a key, a tweak or data: there is no table, and loops and branches are driven by lengths and
/// sector sizes alone. What remains is the premise of every such implementation, that the CPU's
/// AES, carry-less multiplication, shift and XOR take the same time for all operands (on some CPUs
/// only in the mode of Intel's guidance on data operand independent timing, 768873).
struct ScheduledKernel {
  using Run = void (*)(const Schedule& schedule, const uint8_t* in, uint8_t* out,
                       size_t length_bytes, uint64_t first_unit, size_t sector_size_bytes);
  std::string_view name;
  Run encrypt;
  Run decrypt;
};

/// Builds a cipher on `kernel`, which this CPU can run (AES-NI at least, for the expansion); `dek`
/// and `sector_size_bytes` were checked.
Result<std::unique_ptr<Cipher>> CreateScheduledCipher(const ScheduledKernel& kernel,
                                                      std::span<const uint8_t> dek,
                                                      uint32_t sector_size_bytes);

}  // namespace keyhold::xts

#endif

// SPDX-License-Identifier: Apache-2.0
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

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

#if defined(__x86_64__)
/// Instructions that compilers before clang 15 do not know by name in __builtin_cpu_supports.
inline bool CpuHasVectorAes() {
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  constexpr uint32_t kVaes = 1U << 9;
  constexpr uint32_t kVpclmulqdq = 1U << 10;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (ecx & kVaes) != 0 && (ecx & kVpclmulqdq) != 0;
}
#endif

}  // namespace keyhold::xts

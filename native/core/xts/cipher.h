// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace keyhold::xts {

inline constexpr size_t kDekBytes = 64;  // data key (32), then tweak key (32)

/// AES-256-XTS over runs of sectors, tweak `plain64` (reference/luks2.md): the number of a sector
/// is counted in 512-byte units whatever the sector size, little-endian, zero padded to 16 bytes.
/// One Cipher belongs to one DEK; its expanded schedule lies in secret memory. Calls are const and
/// may run on several threads at once. `Wipe` may not overlap any other call (KeyGuard sees to
/// that).
class Cipher {
 public:
  virtual ~Cipher() = default;

  /// Encrypts a run of whole sectors in place or from `in` to `out` (equal or disjoint; any
  /// alignment). `length_bytes` is a multiple of the sector size. `first_unit` = byte offset in the
  /// disk / 512.
  virtual void EncryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                          uint64_t first_unit) const = 0;
  virtual void DecryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                          uint64_t first_unit) const = 0;

  /// Zeroes every byte of key material, round keys included. Idempotent.
  virtual void Wipe() = 0;

  /// The kernel's name: "vaes512", "vaes256", "aesni" or "evp".
  virtual std::string_view kernel() const = 0;
};

/// Builds a cipher from a 64-byte DEK; `kernel` is "auto" or a kernel's name. Equal halves are
/// refused (kInvalidArgument), as OpenSSL and IEEE 1619-2018 do. `sector_size_bytes` is 512 or
/// 4096.
Result<std::unique_ptr<Cipher>> CreateCipher(std::string_view kernel, std::span<const uint8_t> dek,
                                             uint32_t sector_size_bytes);

/// Names of the kernels that this machine can run, best first ("auto" takes the first).
std::vector<std::string_view> AvailableKernels();

/// True when every byte is zero; also for no bytes.
bool AllZero(const uint8_t* data, size_t length_bytes);

/// Decrypts a run under the hole rule (DESIGN.md section 4): a sector whose ciphertext is all zero
/// bytes is a hole and reads as zeros. In place or disjoint.
///
/// Writers need no counterpart: AES is a permutation, so under a given key and sector exactly one
/// plaintext encrypts to zeros. A client would have to hit it among 2^4096 (it is the decryption of
/// zeros, which only a holder of the key can compute).
void DecryptRunWithHoles(const Cipher& cipher, const uint8_t* in, uint8_t* out, size_t length_bytes,
                         uint64_t first_unit, uint32_t sector_size_bytes);

}  // namespace keyhold::xts

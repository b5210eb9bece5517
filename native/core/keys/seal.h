// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/base/result.h"

namespace keyhold {

/// Key bytes under AES-256-GCM.
template <size_t kBytes>
struct Sealed {
  std::array<uint8_t, 12> nonce;
  std::array<uint8_t, kBytes> ciphertext;
  std::array<uint8_t, 16> tag;
};

/// The same without the length.
struct SealedParts {
  std::span<uint8_t, 12> nonce;
  std::span<uint8_t> ciphertext;  // as long as the plaintext
  std::span<uint8_t, 16> tag;
};
struct SealedView {
  std::span<const uint8_t, 12> nonce;
  std::span<const uint8_t> ciphertext;
  std::span<const uint8_t, 16> tag;
};

/// What is sealed, for messages, and under which additional data (at most 4096 bytes).
struct SealSubject {
  const char* operation;  // "seal dek"
  std::span<const uint8_t> aad;
};

/// AES-256-GCM under `key` (32 bytes) with a random 96-bit nonce. Sound while one key seals fewer
/// than 2^32 times (NIST SP 800-38D section 8.3): a set holds at most thousands of disks, a host at
/// most thousands of sets.
Status SealBytes(std::span<const uint8_t> key, const SealSubject& subject,
                 std::span<const uint8_t> plaintext, const SealedParts& out);

/// kUnseal when nonce, ciphertext, tag, additional data or key do not belong together; then `out`
/// (as long as the ciphertext) holds bytes without proof, which the caller wipes.
Status OpenBytes(std::span<const uint8_t> key, const SealSubject& subject, const SealedView& sealed,
                 std::span<uint8_t> out);

}  // namespace keyhold

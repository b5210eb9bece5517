// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/result.h"
#include "core/secret/secret_arena.h"
#include "core/secret/secret_pages.h"

namespace keyhold {

/// The only owner of plaintext key bytes. Move-only; its pages are memfd_secret where the kernel
/// has it, else mmap + mlock + MADV_DONTDUMP + MADV_WIPEONFORK; guard pages stand on either side of
/// each mapping (small buffers share mappings, see SecretArena); wiped with explicit_bzero when
/// given back. The kernel cannot pin memfd_secret pages: never hand them to io_uring or O_DIRECT.
/// There is no copy, no print and no conversion to a string.
class SecretBuffer {
 public:
  /// Allocates `size_bytes` (1 … 1 MiB) zeroed bytes, aligned to 64. kNoMemory names the limit that
  /// stands in the way (RLIMIT_MEMLOCK) where that is the cause.
  static Result<SecretBuffer> Allocate(size_t size_bytes);

  SecretBuffer() = default;
  SecretBuffer(SecretBuffer&& other) noexcept;
  SecretBuffer& operator=(SecretBuffer&& other) noexcept;
  SecretBuffer(const SecretBuffer&) = delete;
  SecretBuffer& operator=(const SecretBuffer&) = delete;
  ~SecretBuffer();

  std::span<uint8_t> bytes() { return {data_, size_bytes_}; }
  std::span<const uint8_t> bytes() const { return {data_, size_bytes_}; }
  size_t size_bytes() const { return size_bytes_; }
  bool empty() const { return size_bytes_ == 0; }

  /// Zeroes the bytes in a way that the compiler may not drop. Idempotent; the buffer stays usable.
  void Wipe();

 private:
  void Swap(SecretBuffer& other) noexcept;

  uint8_t* data_ = nullptr;
  size_t size_bytes_ = 0;
  secret::SecretArena::Block* block_ = nullptr;  // owns the slot of a small buffer
  secret::SecretPages pages_;                    // the mapping of a large one
};

/// Copies `from` to the start of `to`, which is at least as long, byte by byte. memcpy would leave
/// the bytes in vector registers, and whoever saves those next (a signal frame, the dynamic
/// linker's lazy binding) writes them to the stack.
void SecretCopy(std::span<uint8_t> to, std::span<const uint8_t> from);

/// Compares in a time that depends on the length alone. Unequal lengths are unequal.
bool SecretEqual(std::span<const uint8_t> a, std::span<const uint8_t> b);

}  // namespace keyhold

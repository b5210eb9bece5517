// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <vector>

#include "core/base/result.h"
#include "core/secret/secret_pages.h"

namespace keyhold::secret {

/// Secrets up to this size share mappings; larger ones get their own.
inline constexpr size_t kPooledBytesMax = 2048;

/// Slices secret pages into slots, so that ten thousand disks do not take ten thousand mappings (a
/// process may have 65530) and a page of locked memory each. A slot is wiped when it is given back,
/// so that every slot handed out is zeroed. What is free is noted outside the secret pages:
/// overwriting a secret cannot corrupt the arena. Between two slots stands no guard page; that is
/// the price.
class SecretArena {
 public:
  /// One mapping of slots of one size.
  struct Block {
    SecretPages pages;
    size_t size_class;
    std::vector<uint32_t> free_slots;
    size_t slots;
  };
  struct Slot {
    uint8_t* data;
    Block* block;
  };

  /// The process's arena. Never destroyed, since buffers in static objects may outlive any order.
  static SecretArena& Instance();

  /// `size_bytes` is 1 … kPooledBytesMax.
  Result<Slot> Take(size_t size_bytes);
  void Give(const Slot& slot);

  /// Mappings that stand now, for tests and limits.
  size_t mappings() const;

 private:
  // 64 is a cache line; 768 holds the three schedules of AES-256-XTS (720 bytes).
  static constexpr std::array<size_t, 7> kSizeClasses{
      64, 128, 256, 512, 768, 1024, kPooledBytesMax};
  static constexpr size_t kBlockBytes = size_t{64} * 1024;

  mutable std::mutex mutex_;  // guards the lists and every block in them
  std::array<std::list<Block>, kSizeClasses.size()> blocks_;
};

}  // namespace keyhold::secret

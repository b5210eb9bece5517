// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/disk/disk_counters.h"

namespace keyhold {

class BufferPool;

/// Whose plaintext a buffer may hold. Must outlive the buffers that were taken for it.
struct BufferOwner {
  uint32_t disk_id = 0;
  bool wipe_on_release = false;  // true while the disk does not serve
};

/// A piece of pooled memory, page-aligned; goes back to its pool when destroyed.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { Reset(); }

  explicit operator bool() const { return data_ != nullptr; }
  uint8_t* data() const { return data_; }
  void Reset();

  void Wipe() { WipeOutside(0, 0); }
  /// Wipes everything but [begin, end).
  void WipeOutside(size_t begin, size_t end);

 private:
  friend class BufferPool;
  BufferPool* pool_ = nullptr;
  BufferOwner* owner_ = nullptr;
  uint8_t* data_ = nullptr;
  uint32_t size_class_ = 0;
  size_t dirty_bytes_ = 0;  // nothing was ever written beyond
};

/// A shard's buffers, in size classes of powers of two. Not thread-safe.
///
/// Plaintext: wiping on every release would touch each byte once more. Instead a buffer remembers
/// the one disk whose residue it may hold: taken for another disk it is wiped first; when a disk
/// loses its key, `WipeDisk` wipes all that is free of that disk, and its owner's flag wipes the
/// rest upon release.
class BufferPool {
 public:
  static constexpr size_t kBufferBytesMin = 4096;
  /// The longest payload, rounded to 4096-byte sectors on both sides.
  static constexpr size_t kBufferBytesMax = (32U << 20) + 8192;
  static constexpr size_t kCachedBytesMax = 64U << 20;  // beyond it buffers go back to the system

  /// `bytes_in_use` is kept current: by size classes, so at most twice what was asked for.
  explicit BufferPool(Counter& bytes_in_use) : bytes_in_use_(bytes_in_use) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /// An empty buffer when there is no memory.
  Buffer Take(size_t bytes, BufferOwner& owner);
  void WipeDisk(uint32_t disk_id);
  /// Of buffers that are free.
  size_t cached_bytes() const { return cached_bytes_; }

 private:
  friend class Buffer;
  struct Block {
    uint8_t* data;
    uint32_t disk_id;
    size_t dirty_bytes;
  };
  static constexpr size_t kClasses = 15;  // 4 KiB, 8 KiB, … 32 MiB, and kBufferBytesMax
  static size_t ClassBytes(uint32_t size_class);
  static uint32_t ClassOf(size_t bytes);
  void Return(Buffer& buffer);
  void Evict(uint32_t busy);

  std::array<std::vector<Block>, kClasses> free_;
  size_t cached_bytes_ = 0;
  Counter& bytes_in_use_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace keyhold {

Buffer::Buffer(Buffer&& other) noexcept
    : pool_(other.pool_),
      owner_(other.owner_),
      data_(std::exchange(other.data_, nullptr)),
      size_class_(other.size_class_),
      dirty_bytes_(other.dirty_bytes_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    pool_ = other.pool_;
    owner_ = other.owner_;
    data_ = std::exchange(other.data_, nullptr);
    size_class_ = other.size_class_;
    dirty_bytes_ = other.dirty_bytes_;
  }
  return *this;
}

void Buffer::Reset() {
  if (data_ != nullptr) pool_->Return(*this);
  data_ = nullptr;
}

void Buffer::WipeOutside(size_t begin, size_t end) {
  if (data_ == nullptr) return;
  explicit_bzero(data_, std::min(begin, dirty_bytes_));
  if (end < dirty_bytes_) explicit_bzero(data_ + end, dirty_bytes_ - end);
}

BufferPool::~BufferPool() {
  for (std::vector<Block>& blocks : free_) {
    for (Block& block : blocks) {
      explicit_bzero(block.data, block.dirty_bytes);
      std::free(block.data);
    }
  }
}

size_t BufferPool::ClassBytes(uint32_t size_class) {
  return size_class == kClasses - 1 ? kBufferBytesMax : kBufferBytesMin << size_class;
}

uint32_t BufferPool::ClassOf(size_t bytes) {
  if (bytes > kBufferBytesMax) std::abort();
  if (bytes <= kBufferBytesMin) return 0;
  const size_t rounded = std::bit_ceil(bytes);
  return std::min<uint32_t>(static_cast<uint32_t>(std::countr_zero(rounded / kBufferBytesMin)),
                            kClasses - 1);
}

Buffer BufferPool::Take(size_t bytes, BufferOwner& owner) {
  const uint32_t size_class = ClassOf(bytes);
  Buffer buffer;
  buffer.pool_ = this;
  buffer.owner_ = &owner;
  buffer.size_class_ = size_class;
  buffer.dirty_bytes_ = bytes;
  std::vector<Block>& blocks = free_[size_class];
  if (blocks.empty()) {
    constexpr size_t kPageBytes = 4096;
    buffer.data_ = static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, ClassBytes(size_class)));
    if (buffer.data_ != nullptr) bytes_in_use_.Add(ClassBytes(size_class));
    return buffer;
  }
  const Block block = blocks.back();
  blocks.pop_back();
  cached_bytes_ -= ClassBytes(size_class);
  bytes_in_use_.Add(ClassBytes(size_class));
  buffer.data_ = block.data;
  if (block.disk_id == owner.disk_id) {
    buffer.dirty_bytes_ = std::max(bytes, block.dirty_bytes);
  } else {
    explicit_bzero(block.data, block.dirty_bytes);
  }
  return buffer;
}

void BufferPool::Return(Buffer& buffer) {
  const size_t class_bytes = ClassBytes(buffer.size_class_);
  bytes_in_use_.Subtract(class_bytes);
  if (buffer.owner_->wipe_on_release) {
    explicit_bzero(buffer.data_, buffer.dirty_bytes_);
    buffer.dirty_bytes_ = 0;
  }
  free_[buffer.size_class_].push_back({buffer.data_, buffer.owner_->disk_id, buffer.dirty_bytes_});
  cached_bytes_ += class_bytes;
  while (cached_bytes_ > kCachedBytesMax) Evict(buffer.size_class_);
}

/// Gives a buffer back to the system: of another class than `busy` while one holds any. What
/// clients no longer use gives way to what they use now.
void BufferPool::Evict(uint32_t busy) {
  uint32_t victim = busy;
  size_t victim_bytes = 0;
  for (uint32_t i = 0; i < kClasses; ++i) {
    const size_t bytes = free_[i].size() * ClassBytes(i);
    if (i == busy || bytes <= victim_bytes) continue;
    victim = i;
    victim_bytes = bytes;
  }
  std::vector<Block>& blocks = free_[victim];
  std::swap(blocks.front(), blocks.back());  // the front was used least recently
  explicit_bzero(blocks.back().data, blocks.back().dirty_bytes);
  std::free(blocks.back().data);
  blocks.pop_back();
  cached_bytes_ -= ClassBytes(victim);
}

void BufferPool::WipeDisk(uint32_t disk_id) {
  for (std::vector<Block>& blocks : free_) {
    for (Block& block : blocks) {
      if (block.disk_id != disk_id) continue;
      explicit_bzero(block.data, block.dirty_bytes);
      block.dirty_bytes = 0;
    }
  }
}

}  // namespace keyhold

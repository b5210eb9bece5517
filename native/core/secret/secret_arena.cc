// SPDX-License-Identifier: Apache-2.0
#include "core/secret/secret_arena.h"

#include <string.h>

#include <algorithm>

namespace keyhold::secret {

SecretArena& SecretArena::Instance() {
  static auto* const kArena = new SecretArena();
  return *kArena;
}

Result<SecretArena::Slot> SecretArena::Take(size_t size_bytes) {
  const auto* size = std::find_if(kSizeClasses.begin(), kSizeClasses.end(),
                                  [size_bytes](size_t bytes) { return bytes >= size_bytes; });
  const auto size_class = static_cast<size_t>(size - kSizeClasses.begin());
  const std::lock_guard lock(mutex_);
  std::list<Block>& list = blocks_[size_class];
  auto block = std::find_if(list.begin(), list.end(),
                            [](const Block& one) { return !one.free_slots.empty(); });
  if (block == list.end()) {
    auto pages = MapSecretPages(kBlockBytes);
    if (!pages) return pages.error();
    const size_t slots = pages.value().data_bytes / *size;
    block = list.insert(list.end(), Block{pages.value(), size_class, {}, slots});
    block->free_slots.reserve(slots);
    for (size_t slot = slots; slot > 0; --slot) {
      block->free_slots.push_back(static_cast<uint32_t>(slot - 1));
    }
  }
  const uint32_t slot = block->free_slots.back();
  block->free_slots.pop_back();
  return Slot{block->pages.data + slot * *size, &*block};
}

void SecretArena::Give(const Slot& slot) {
  Block& block = *slot.block;
  const size_t size_bytes = kSizeClasses[block.size_class];
  explicit_bzero(slot.data, size_bytes);
  const std::lock_guard lock(mutex_);
  const auto offset = static_cast<size_t>(slot.data - block.pages.data);
  block.free_slots.push_back(static_cast<uint32_t>(offset / size_bytes));
  if (block.free_slots.size() < block.slots) return;
  // An empty block goes back to the system unless it is the only one with room: a disk that comes
  // and goes would otherwise map and unmap each time.
  std::list<Block>& list = blocks_[block.size_class];
  const auto other = std::find_if(list.begin(), list.end(), [&block](const Block& one) {
    return &one != &block && !one.free_slots.empty();
  });
  if (other == list.end()) return;
  UnmapSecretPages(block.pages);
  list.remove_if([&block](const Block& one) { return &one == &block; });
}

size_t SecretArena::mappings() const {
  const std::lock_guard lock(mutex_);
  size_t count = 0;
  for (const auto& list : blocks_) count += list.size();
  return count;
}

}  // namespace keyhold::secret

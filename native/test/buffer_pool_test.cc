// SPDX-License-Identifier: Apache-2.0
#include "core/shard/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace keyhold::test {
namespace {

constexpr size_t kMiB = 1U << 20;
constexpr size_t kSmall = 128 * 1024;

class Pool : public ::testing::Test {
 protected:
  /// Uses so many buffers at once, then gives them back.
  void Use(size_t count, size_t bytes) {
    std::vector<Buffer> buffers;
    for (size_t i = 0; i < count; ++i) {
      buffers.push_back(pool_.Take(bytes, owner_));
      std::fill_n(buffers.back().data(), bytes, 0xab);
    }
  }

  BufferOwner owner_{1, false};
  Counter in_use_;
  BufferPool pool_{in_use_};
};

TEST_F(Pool, GivesTheSameBufferAgain) {
  Buffer buffer = pool_.Take(kSmall, owner_);
  uint8_t* const data = buffer.data();
  buffer.Reset();
  EXPECT_EQ(pool_.Take(kSmall, owner_).data(), data);
}

TEST_F(Pool, KeepsNoMoreThanItMay) {
  Use(80, kMiB);
  EXPECT_EQ(pool_.cached_bytes(), BufferPool::kCachedBytesMax);
  Use(3, BufferPool::kBufferBytesMax);
  EXPECT_LE(pool_.cached_bytes(), BufferPool::kCachedBytesMax);
}

TEST_F(Pool, FullOfBuffersThatNobodyUsesKeepsThoseThatAreUsed) {
  Use(64, kMiB);
  Use(16, kSmall);
  const size_t cached = pool_.cached_bytes();
  std::vector<Buffer> buffers;
  for (int i = 0; i < 16; ++i) buffers.push_back(pool_.Take(kSmall, owner_));
  EXPECT_EQ(pool_.cached_bytes(), cached - 16 * kSmall) << "all sixteen were free buffers";
}

TEST_F(Pool, GivesTheBytesOfOneDiskToNoOther) {
  Use(1, kSmall);
  BufferOwner other{2, false};
  const Buffer buffer = pool_.Take(kSmall, other);
  EXPECT_TRUE(std::all_of(buffer.data(), buffer.data() + kSmall, [](uint8_t b) { return b == 0; }));
}

TEST_F(Pool, WipesUponReleaseWhatADiskThatDoesNotServeHeld) {
  Buffer buffer = pool_.Take(kSmall, owner_);
  uint8_t* const data = buffer.data();
  std::fill_n(data, kSmall, 0xab);
  owner_.wipe_on_release = true;
  buffer.Reset();
  EXPECT_TRUE(std::all_of(data, data + kSmall, [](uint8_t b) { return b == 0; }));
}

TEST_F(Pool, CountsWhatIsInUse) {
  {
    const Buffer buffer = pool_.Take(kSmall + 1, owner_);
    EXPECT_EQ(in_use_.Get(), 2 * kSmall) << "by size classes";
  }
  EXPECT_EQ(in_use_.Get(), 0U);
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// What a file says of its holes, against layouts that the test made itself.
#include "core/store/file_extents.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <random>

#include "core/io/unique_fd.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint64_t kBlock = 4096;  // of the file systems that tests run on

/// A file of which each block is either data or a hole.
class Layout {
 public:
  explicit Layout(std::vector<bool> data) : data_(std::move(data)) {
    fd_ = UniqueFd(::open(directory_.File("layout").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(::ftruncate(fd_.get(), static_cast<off_t>(data_.size() * kBlock)), 0);
    const Bytes block(kBlock, 0x5a);
    for (size_t i = 0; i < data_.size(); ++i) {
      if (!data_[i]) continue;
      EXPECT_EQ(::pwrite(fd_.get(), block.data(), kBlock, static_cast<off_t>(i * kBlock)),
                static_cast<ssize_t>(kBlock));
    }
  }

  int fd() const { return fd_.get(); }
  uint64_t size_bytes() const { return data_.size() * kBlock; }

  /// The same answer, unit by unit.
  std::vector<StatusExtent> Expected(uint64_t offset, uint64_t length, uint64_t granularity,
                                     size_t room) const {
    std::vector<StatusExtent> extents;
    for (uint64_t at = 0; at < length; at += granularity) {
      const uint64_t unit = std::min(granularity, length - at);
      bool hole = unit == granularity;
      for (uint64_t byte = at; byte < at + unit; byte += 512) {
        hole = hole && !data_[(offset + byte) / kBlock];
      }
      if (!extents.empty() && extents.back().flags == (hole ? 1U : 0U)) {
        extents.back().length += unit;
      } else if (extents.size() == room) {
        break;
      } else {
        extents.push_back({unit, hole ? 1U : 0U});
      }
    }
    return extents;
  }

 private:
  std::vector<bool> data_;
  TempDirectory directory_;
  UniqueFd fd_;
};

struct Scanned {
  int32_t result;
  std::vector<StatusExtent> extents;
};

Scanned Scan(int fd, uint64_t offset, uint64_t length, uint64_t granularity, size_t room) {
  std::vector<Extent> memory(room);
  ExtentList list{memory, granularity, 0};
  Scanned scanned{ScanExtents(fd, offset, length, list), {}};
  for (size_t i = 0; scanned.result == 0 && i < list.count; ++i) {
    scanned.extents.push_back({memory[i].length_bytes, memory[i].hole});
  }
  return scanned;
}

TEST(FileExtents, RandomLayoutsAreToldInWholeUnits) {
  const char* given = std::getenv("KEYHOLD_TEST_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                                         : std::random_device()();
  SCOPED_TRACE("KEYHOLD_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    std::vector<bool> data(1 + random() % 120);
    const uint32_t stickiness = 1 + static_cast<uint32_t>(random()) % 8;
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = i > 0 && random() % stickiness != 0 ? data[i - 1] : random() % 2 == 0;
    }
    const Layout layout(data);
    for (int query = 0; query < 40; ++query) {
      const uint64_t granularity = std::array{512U, 4096U, 8192U, 16384U}[random() % 4];
      const uint64_t offset = random() % (layout.size_bytes() / 512) * 512;
      const uint64_t units = (layout.size_bytes() - offset) / granularity;
      if (units == 0) continue;
      const uint64_t length = (1 + random() % units) * granularity;
      const size_t room = random() % 3 == 0 ? 1 : 1 + random() % 20;
      const Scanned scanned = Scan(layout.fd(), offset, length, granularity, room);
      ASSERT_EQ(scanned.result, 0);
      // A full list may stop before a unit that would still have belonged to its last extent.
      std::vector<StatusExtent> expected = layout.Expected(offset, length, granularity, room);
      ASSERT_EQ(scanned.extents, expected)
          << "offset " << offset << " length " << length << " unit " << granularity;
    }
  }
}

TEST(FileExtents, AFileThatEndsInsideTheRangeIsAnErrorAndNoHole) {
  const Layout layout({true, false, false, false});
  ASSERT_EQ(::ftruncate(layout.fd(), 2 * kBlock), 0);
  EXPECT_EQ(Scan(layout.fd(), 0, 4 * kBlock, 512, 8).result, -EIO);
  EXPECT_EQ(Scan(layout.fd(), 3 * kBlock, kBlock, 512, 8).result, -EIO);
  EXPECT_EQ(Scan(layout.fd(), 0, 2 * kBlock, 512, 8).result, 0);
}

TEST(FileExtents, ALayoutTooFinelyBrokenIsToldAsDataAfterABoundedNumberOfSeeks) {
  std::vector<bool> data(2 * kExtentSeeksMax);
  for (size_t i = 0; i < data.size(); ++i) data[i] = i % 2 == 0;
  const Layout layout(data);
  const Scanned scanned = Scan(layout.fd(), 0, layout.size_bytes(), 16 * kBlock, 256);
  ASSERT_EQ(scanned.extents.size(), 1U);
  EXPECT_EQ(scanned.extents[0].flags, 0U);
  EXPECT_LT(scanned.extents[0].length, layout.size_bytes());
  EXPECT_EQ(scanned.extents[0].length % (16 * kBlock), 0U);
}

TEST(FileExtents, WhatCannotSeekForHolesIsNotSupported) {
  const UniqueFd fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(Scan(fd.get(), 0, kBlock, 512, 8).result, -EOPNOTSUPP);
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
#include "core/store/discard.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr size_t kMib = 1 << 20;

class DiscardTest : public ::testing::Test {
 protected:
  TempDirectory directory_;
  std::string path_ = directory_.File("store");

  void SetUp() override {
    const std::string bytes(kMib, 'x');
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  struct stat Status() const {
    struct stat status {};
    EXPECT_EQ(stat(path_.c_str(), &status), 0);
    return status;
  }
  std::string Content() const {
    std::ifstream file(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
};

TEST_F(DiscardTest, AFileGetsAHoleAndKeepsItsSize) {
  const auto before = Status().st_blocks;
  const auto discarded = DiscardRange(path_, 4096, kMib / 2);
  ASSERT_TRUE(discarded.ok());
  // Every file system that a temporary directory lies on here (tmpfs, ext4, xfs) punches holes.
  ASSERT_TRUE(discarded.value());
  EXPECT_LT(Status().st_blocks, before);
  EXPECT_EQ(Status().st_size, static_cast<off_t>(kMib));
}

TEST_F(DiscardTest, WhatLiesAroundTheRangeStays) {
  ASSERT_TRUE(DiscardRange(path_, 4096, 8192).ok());
  const std::string content = Content();
  EXPECT_EQ(content.substr(0, 4096), std::string(4096, 'x'));
  EXPECT_EQ(content.substr(12288), std::string(kMib - 12288, 'x'));
}

TEST_F(DiscardTest, ARangeBeyondTheEndDoesNotLengthenTheFile) {
  ASSERT_TRUE(DiscardRange(path_, kMib, kMib).ok());
  EXPECT_EQ(Status().st_size, static_cast<off_t>(kMib));
}

TEST_F(DiscardTest, AnEmptyRangeIsRefused) {
  EXPECT_EQ(DiscardRange(path_, 0, 0).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(DiscardTest, ARangeThatOverflowsIsRefused) {
  EXPECT_EQ(DiscardRange(path_, INT64_MAX, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(DiscardRange(path_, 1, UINT64_MAX).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(DiscardTest, AFileThatIsNotThereIsASystemErrorWithItsPath) {
  const auto discarded = DiscardRange(directory_.File("none"), 0, 512);
  ASSERT_FALSE(discarded.ok());
  EXPECT_EQ(discarded.error().errno_value, ENOENT);
  EXPECT_NE(discarded.error().message.find(directory_.File("none")), std::string::npos);
}

TEST_F(DiscardTest, ADirectoryIsRefused) {
  EXPECT_FALSE(DiscardRange(directory_.File("."), 0, 512).ok());
}

TEST_F(DiscardTest, ACharacterDeviceIsRefused) {
  EXPECT_EQ(DiscardRange("/dev/null", 0, 512).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace keyhold::test

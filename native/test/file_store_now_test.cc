// SPDX-License-Identifier: Apache-2.0
// What a store does at once, on the calling thread, and what it leaves to the ring.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <optional>

#include "core/store/file_store.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

class Transfer final : public StoreOp {
 public:
  Transfer(Kind what, uint64_t offset, Bytes& bytes) {
    kind = what;
    offset_bytes = offset;
    data = bytes.data();
    StoreOp::length_bytes = bytes.size();
  }
  std::optional<int32_t> later;

 private:
  void OnStoreDone(int32_t result) override { later = result; }
};

class Now : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr uint64_t kStoreBytes = 256 * 1024;
  TempDirectory directory_{GetParam()};
  const std::string path_ = directory_.File("store");
  std::unique_ptr<Ring> ring_ = Ring::Create(Engine::kUring).Take();

  std::unique_ptr<FileStore> Open(const Bytes& contents) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(contents.data()), ssize_t(contents.size()));
    return FileStore::Open(path_, false, contents.size()).Take();
  }
  int32_t Finish(Store& store, Transfer& transfer) {
    const std::optional<int32_t> now = store.SubmitOrFinish(*ring_, transfer);
    if (now) return *now;
    while (!transfer.later) {
      EXPECT_TRUE(ring_->SubmitAndWait().ok());
      ring_->Dispatch();
    }
    return *transfer.later;
  }
};

INSTANTIATE_TEST_SUITE_P(OnDiskAndInMemory, Now, ::testing::Values("", "/dev/shm"));

TEST_P(Now, WhatThePageCacheHasIsReadAtOnce) {
  const Bytes contents = Pattern(kStoreBytes, 1);
  std::unique_ptr<FileStore> store = Open(contents);
  Bytes bytes(100'000);
  Transfer read(StoreOp::Kind::kRead, 4096, bytes);
  EXPECT_EQ(store->SubmitOrFinish(*ring_, read), 0);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), contents.begin() + 4096));
  EXPECT_FALSE(read.later) << "told twice";
  EXPECT_EQ(read.done_bytes(), bytes.size());
}

TEST_P(Now, WhatThePageCacheLacksIsReadAllTheSame) {
  const Bytes contents = Pattern(kStoreBytes, 2);
  std::unique_ptr<FileStore> store = Open(contents);
  const UniqueFd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::fsync(file.get()), 0);
  ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  // The beginning is cached again: so the read begins at once and goes on in the ring.
  char first = 0;
  ASSERT_EQ(::pread(file.get(), &first, 1, 0), 1);
  Bytes bytes(kStoreBytes);
  Transfer read(StoreOp::Kind::kRead, 0, bytes);
  EXPECT_EQ(Finish(*store, read), 0);
  EXPECT_TRUE(bytes == contents);
}

TEST_P(Now, AWriteArrivesWhereverItIsDone) {
  std::unique_ptr<FileStore> store = Open(Bytes(kStoreBytes));
  for (uint32_t i = 0; i < 3; ++i) {  // what the first attempt learns, the next ones use
    Bytes bytes = Pattern(70'000, i);
    Transfer write(StoreOp::Kind::kWrite, 8192, bytes);
    EXPECT_EQ(Finish(*store, write), 0);
    Bytes back(bytes.size());
    Transfer read(StoreOp::Kind::kRead, 8192, back);
    EXPECT_EQ(Finish(*store, read), 0);
    EXPECT_TRUE(back == bytes);
  }
}

TEST_P(Now, AStoreThatWasCutShortIsAnErrorAndNeverZeros) {
  std::unique_ptr<FileStore> store = Open(Pattern(kStoreBytes, 3));
  std::filesystem::resize_file(path_, 10'000);
  Bytes bytes(4096);
  Transfer read(StoreOp::Kind::kRead, 8192, bytes);
  EXPECT_EQ(Finish(*store, read), -EIO);
  EXPECT_EQ(read.done_bytes(), 10'000U - 8192U);
}

TEST_P(Now, AWriteThatFailsTellsItsErrno) {
  { std::unique_ptr<FileStore> made = Open(Bytes(kStoreBytes)); }
  std::unique_ptr<FileStore> store = FileStore::Open(path_, true, kStoreBytes).Take();
  Bytes bytes(4096);
  Transfer write(StoreOp::Kind::kWrite, 0, bytes);
  EXPECT_EQ(Finish(*store, write), -EBADF);
}

TEST_P(Now, AFlushIsLeftToTheRing) {
  std::unique_ptr<FileStore> store = Open(Bytes(kStoreBytes));
  Bytes none;
  Transfer flush(StoreOp::Kind::kFlush, 0, none);
  EXPECT_FALSE(store->SubmitOrFinish(*ring_, flush).has_value());
  while (!flush.later) {
    ASSERT_TRUE(ring_->SubmitAndWait().ok());
    ring_->Dispatch();
  }
  EXPECT_EQ(flush.later, 0);
}

TEST(NowInMemory, WritesAreDoneAtOnce) {
  TempDirectory directory("/dev/shm");
  const std::string path = directory.File("store");
  std::ofstream(path).flush();
  std::filesystem::resize_file(path, 8192);
  std::unique_ptr<FileStore> store = FileStore::Open(path, false, 8192).Take();
  std::unique_ptr<Ring> ring = Ring::Create(Engine::kUring).Take();
  Bytes bytes = Pattern(4096, 4);
  Transfer write(StoreOp::Kind::kWrite, 4096, bytes);
  EXPECT_EQ(store->SubmitOrFinish(*ring, write), 0);
  const Bytes file = ReadFile(path);
  EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), file.begin() + 4096));
}

}  // namespace
}  // namespace keyhold::test

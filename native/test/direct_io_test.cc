// SPDX-License-Identifier: Apache-2.0
// Stores past the page cache, on the file system that the tests were built on: the usual place for
// temporary files may be a tmpfs, which says nothing of its alignment.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <sstream>

#include "core/store/file_store.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint64_t kDataOffset = 8192;
constexpr uint32_t kDiskBytes = 256 * 1024;

/// A file beside the test's own program, of zeros.
class StoreFile {
 public:
  explicit StoreFile(uint64_t size_bytes) {
    const auto program = std::filesystem::read_symlink("/proc/self/exe");
    path_ = (program.parent_path() / "direct-io-test-XXXXXX").string();
    const UniqueFd fd(::mkstemp(path_.data()));
    EXPECT_TRUE(fd);
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)), 0);
  }
  StoreFile(const StoreFile&) = delete;
  StoreFile& operator=(const StoreFile&) = delete;
  ~StoreFile() { ::unlink(path_.c_str()); }

  const std::string& path() const { return path_; }

  /// Flags of the descriptor that this process holds open on it (proc(5)).
  unsigned long OpenFlags() const {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry.path(), gone) != path_) continue;
      std::ifstream info("/proc/self/fdinfo/" + entry.path().filename().string());
      for (std::string word; info >> word;) {
        if (word == "flags:" && info >> word) return std::stoul(word, nullptr, 8);
      }
    }
    return 0;
  }

 private:
  std::string path_;
};

DirectIo Required(uint32_t sector_size_bytes, uint64_t data_offset_bytes = kDataOffset) {
  return {true, sector_size_bytes, data_offset_bytes};
}

Plane::DiskOptions OptionsFor(uint32_t sector_size_bytes, bool holes = true) {
  Plane::DiskOptions options;
  options.name = "direct";
  options.geometry = {kDiskBytes, sector_size_bytes, kDataOffset, false, holes};
  options.lease_enforced = false;
  options.direct = true;
  return options;
}

struct Variant {
  uint32_t sector_size_bytes;
  bool holes;
};

class DirectDisk : public ::testing::TestWithParam<Variant> {
 protected:
  std::shared_ptr<Disk> Open(TestPlane& plane) {
    auto disk = plane.plane().OpenDisk(OptionsFor(GetParam().sector_size_bytes, GetParam().holes),
                                       file_.path(), lease_);
    EXPECT_TRUE(disk.ok()) << disk.error().message;
    EXPECT_TRUE(Unlock(*disk.value()).ok());
    EXPECT_NE(file_.OpenFlags() & O_DIRECT, 0U);
    return disk.Take();
  }

  StoreFile file_{kDataOffset + kDiskBytes};
  std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
};

INSTANTIATE_TEST_SUITE_P(All, DirectDisk,
                         ::testing::Values(Variant{512, true}, Variant{512, false},
                                           Variant{4096, true}, Variant{4096, false}));

TEST_P(DirectDisk, RandomRequestsOfAnyAlignmentMatchAnArray) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  TestPlane plane;
  Client client = plane.Connect(Open(plane));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, kDiskBytes).error, 0U);
  Bytes model(kDiskBytes, 0);
  for (int i = 0; i < 200; ++i) {
    const uint32_t offset = static_cast<uint32_t>(random()) % kDiskBytes;
    const uint32_t longest = random() % 4 == 0 ? kDiskBytes : 9000;
    const auto length =
        1 + static_cast<uint32_t>(random()) % std::min(longest, kDiskBytes - offset);
    switch (random() % 4) {
      case 0: {
        const Bytes bytes = Pattern(length, static_cast<uint32_t>(random()));
        client.Write(offset, bytes, random() % 8 == 0 ? wire::kFua : 0);
        std::copy(bytes.begin(), bytes.end(), model.begin() + offset);
        break;
      }
      case 1: {
        const uint16_t flags = random() % 2 ? wire::kNoHole : 0;
        ASSERT_EQ(client.Do(wire::kWriteZeroes, flags, offset, length).error, 0U);
        std::fill_n(model.begin() + offset, length, uint8_t{0});
        break;
      }
      default:
        ASSERT_EQ(client.Read(offset, length),
                  Bytes(model.begin() + offset, model.begin() + offset + length))
            << "offset " << offset << " length " << length;
    }
  }
  EXPECT_EQ(client.Do(wire::kFlush, 0, 0, 0).error, 0U);
  EXPECT_EQ(client.Read(0, kDiskBytes), model);
}

TEST_P(DirectDisk, StoreHoldsWhatOpenSslMakesOfThePlaintext) {
  TestPlane plane;
  Client client = plane.Connect(Open(plane));
  const Bytes plain = Pattern(64 * 1024, 5);
  client.Write(128 * 1024, plain);
  const Bytes store = ReadFile(file_.path());
  for (size_t at = 0; at < plain.size(); at += GetParam().sector_size_bytes) {
    const uint64_t offset = 128 * 1024 + at;
    const auto sector = std::span(plain).subspan(at, GetParam().sector_size_bytes);
    const Bytes expected = OracleEncrypt(sector, offset / 512);
    const auto begin = store.begin() + static_cast<std::ptrdiff_t>(kDataOffset + offset);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), begin)) << "sector at " << offset;
  }
}

TEST_P(DirectDisk, CacheIsAnsweredAndReadsNothingAhead) {
  TestPlane plane;
  Client client = plane.Connect(Open(plane));
  EXPECT_EQ(client.Do(wire::kCache, 0, 0, kDiskBytes).error, 0U);
}

TEST_P(DirectDisk, AStoreThatWasCutWithinASectorIsAnErrorAndNoZeros) {
  TestPlane plane;
  Client client = plane.Connect(Open(plane));
  client.Write(0, Pattern(16384, 1));
  std::filesystem::resize_file(file_.path(), kDataOffset + 4096 + 700);
  EXPECT_EQ(client.Do(wire::kRead, 0, 4096, 8192).error, wire::kIo);
  EXPECT_EQ(client.Read(0, 4096), Pattern(4096, 1));
}

/// A plane whose direct store reports half of what it did, the first time that it does something.
class ShortTransfers : public ::testing::Test {
 protected:
  ShortTransfers() {
    auto file = FileStore::Open(file_.path(), false, kDataOffset + kDiskBytes, Required(512));
    EXPECT_TRUE(file.ok()) << file.error().message;
    auto hook = [this](const StoreOp& op) {
      if (op.done_bytes() > 0) {
        const std::lock_guard lock(mutex_);
        resumed_at_.push_back(op.offset_bytes + op.done_bytes());
      }
      return FaultStore::Verdict{.shorten = op.done_bytes() == 0};
    };
    auto store = std::make_unique<FaultStore>(file.Take(), hook, nullptr);
    disk_ = plane_.plane().AddDisk(OptionsFor(512), std::move(store), lease_).Take();
    EXPECT_TRUE(Unlock(*disk_).ok());
  }

  StoreFile file_{kDataOffset + kDiskBytes};
  std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
  std::mutex mutex_;
  std::vector<uint64_t> resumed_at_;  // guarded by mutex_
  TestPlane plane_;
  std::shared_ptr<Disk> disk_;
};

TEST_F(ShortTransfers, GoOnAtAWholeUnit) {
  Client client = plane_.Connect(disk_);
  const Bytes bytes = Pattern(1536, 4);  // half of it ends within the second sector
  client.Write(1024, bytes);
  EXPECT_EQ(client.Read(1024, 1536), bytes);
  const std::lock_guard lock(mutex_);
  EXPECT_FALSE(resumed_at_.empty());
  for (const uint64_t at : resumed_at_) EXPECT_EQ(at % 512, 0U);
}

TEST_F(ShortTransfers, OfLessThanAUnitAreAnError) {
  Client client = plane_.Connect(disk_);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, wire::kIo);
  EXPECT_EQ(client.Do(wire::kWrite, 0, 0, 512, Pattern(512, 1)).error, wire::kIo);
}

TEST(DirectOpen, AFileIsBufferedUnlessItIsAskedFor) {
  const StoreFile file(kDiskBytes);
  const auto store = FileStore::Open(file.path(), false, 0);
  ASSERT_TRUE(store.ok());
  EXPECT_FALSE(store.value()->direct());
  EXPECT_EQ(store.value()->buffered_because(), "");
  EXPECT_EQ(file.OpenFlags() & O_DIRECT, 0U);
}

TEST(DirectOpen, AReadOnlyStoreIsDirectToo) {
  const StoreFile file(kDiskBytes);
  const auto store = FileStore::Open(file.path(), true, 0, Required(512));
  ASSERT_TRUE(store.ok()) << store.error().message;
  EXPECT_TRUE(store.value()->direct());
}

struct Misfit {
  DirectIo direct;
  const char* message;
};

TEST(DirectOpen, RefusesTransfersThatDoNotFitNamingBothFigures) {
  const StoreFile file(kDiskBytes);
  for (const Misfit& misfit :
       {Misfit{Required(256),
               "the disk's sector size is 256, expected a multiple of the store's "
               "alignment, 512 bytes"},
        Misfit{Required(512, 8192 + 100), "the disk's data offset is 8292, expected a multiple"}}) {
    const auto store = FileStore::Open(file.path(), false, 0, misfit.direct);
    ASSERT_FALSE(store.ok()) << misfit.message;
    EXPECT_EQ(store.error().code, ErrorCode::kStoreDirect);
    EXPECT_NE(store.error().message.find(misfit.message), std::string::npos)
        << store.error().message;
  }
  EXPECT_TRUE(FileStore::Open(file.path(), false, 0).ok()) << "what was refused is not held";
}

TEST(DirectOpen, RefusesAFileSystemWithoutDirectIo) {
  const auto store = FileStore::Open("/proc/version", true, 0, Required(4096));
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.error().code, ErrorCode::kStoreDirect);
  EXPECT_NE(store.error().message.find("/proc/version for direct i/o: "), std::string::npos);
}

TEST(DirectOpen, ADiskThatDoesNotFitIsNotAdded) {
  const StoreFile file(kDiskBytes * 2);
  TestPlane plane;
  Plane::DiskOptions options = OptionsFor(512);
  options.geometry.data_offset_bytes = 8192 + 256;
  const auto disk = plane.plane().OpenDisk(options, file.path(), std::make_shared<Lease>());
  ASSERT_FALSE(disk.ok());
  EXPECT_EQ(disk.error().code, ErrorCode::kStoreDirect);
}

}  // namespace
}  // namespace keyhold::test

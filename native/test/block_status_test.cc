// SPDX-License-Identifier: Apache-2.0
// BLOCK_STATUS: base:allocation of a disk, with 32-bit and with 64-bit lengths.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "core/shard/request.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint32_t kContext = 7;
constexpr uint64_t kHole = wire::kExtentHole | wire::kExtentZero;
constexpr wire::Agreed kCompact{wire::Replies::kStructured, kContext};
constexpr wire::Agreed kExtended{wire::Replies::kExtended, kContext};
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1ULL << 30;

using Extents = std::vector<StatusExtent>;

class BlockStatus : public ::testing::TestWithParam<wire::Agreed> {};
INSTANTIATE_TEST_SUITE_P(Headers, BlockStatus, ::testing::Values(kCompact, kExtended));

TEST_P(BlockStatus, OfAFreshDiskIsOneHole) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  const Reply reply = client.Do(wire::kBlockStatus, 0, 0, kMiB);
  EXPECT_EQ(reply.error, 0U);
  EXPECT_EQ(reply.context_id, kContext);
  EXPECT_EQ(reply.extents, (Extents{{kMiB, kHole}}));
}

TEST_P(BlockStatus, TellsDataAndHolesApartAndIsCutToTheRequest) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  client.Write(256 * 1024, Pattern(65536, 1));
  const Reply reply = client.Do(wire::kBlockStatus, wire::kFua, 100'000, 300'000);
  EXPECT_EQ(reply.extents, (Extents{{162'144, kHole}, {65536, 0}, {72'320, kHole}}));
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 270'000, 7).extents, (Extents{{7, 0}}));
}

TEST_P(BlockStatus, WithRequestOneHasOneExtentWithinTheRequest) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  client.Write(65536, Pattern(65536, 1));
  const auto one = [&](uint64_t offset, uint64_t length) {
    return client.Do(wire::kBlockStatus, wire::kRequestOne, offset, length).extents;
  };
  EXPECT_EQ(one(0, kMiB), (Extents{{65536, kHole}}));
  EXPECT_EQ(one(65536, kMiB - 65536), (Extents{{65536, 0}}));
  EXPECT_EQ(one(65536, 512), (Extents{{512, 0}}));
  EXPECT_EQ(one(131072, 1000), (Extents{{1000, kHole}}));
}

TEST_P(BlockStatus, OfATrimmedRangeIsAHoleAgain) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  client.Write(0, Pattern(kMiB, 1));
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, kMiB).extents, (Extents{{kMiB, 0}}));
  EXPECT_EQ(client.Do(wire::kTrim, 0, 65536, 65536).error, 0U);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, kMiB).extents,
            (Extents{{65536, 0}, {65536, kHole}, {kMiB - 131072, 0}}));
}

TEST_P(BlockStatus, OfADiskWithoutTheHoleRuleIsAllData) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 3, kMiB - 3).extents, (Extents{{kMiB - 3, 0}}));
}

TEST_P(BlockStatus, OfAReadOnlyDiskIsTold) {
  TestPlane plane;
  DiskSetup setup;
  setup.read_only = true;
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, kMiB).extents, (Extents{{kMiB, kHole}}));
}

TEST_P(BlockStatus, OfAStoreThatCannotTellIsAllData) {
  TestPlane plane;
  DiskSetup setup;
  setup.hook = [](const StoreOp& op) {
    return FaultStore::Verdict{op.kind == StoreOp::Kind::kExtents ? EOPNOTSUPP : 0, false, false};
  };
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 100, 5000).extents, (Extents{{5000, 0}}));
}

TEST_P(BlockStatus, OfAStoreThatFailsIsEioWithTheOffset) {
  TestPlane plane;
  DiskSetup setup;
  setup.hook = [](const StoreOp& op) {
    return FaultStore::Verdict{op.kind == StoreOp::Kind::kExtents ? EIO : 0, false, false};
  };
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  const Reply reply = client.Do(wire::kBlockStatus, 0, 100, 5000);
  EXPECT_EQ(reply.error, wire::kIo);
  EXPECT_EQ(reply.error_offset, 100U);
  EXPECT_EQ(client.Read(0, 512), Bytes(512, 0));
}

TEST_P(BlockStatus, OfAStoreThatWasCutShortIsAnErrorAndNoHole) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, GetParam());
  ASSERT_EQ(::truncate(plane.StorePath(*disk).c_str(), 8192 + 4096), 0);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, kMiB).error, wire::kIo);
}

TEST_P(BlockStatus, RefusesWhatIsOutOfRangeOrEmpty) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 1, kMiB).error, wire::kInval);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, UINT64_MAX, 1).error, wire::kInval);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 0).error, wire::kInval);
  for (uint16_t flag : std::initializer_list<uint16_t>{0x2, 0x4, 0x10, 0x40, 0x8000}) {
    EXPECT_EQ(client.Do(wire::kBlockStatus, flag, 0, 512).error, wire::kInval) << flag;
  }
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 512).extents, (Extents{{512, kHole}}));
}

TEST_P(BlockStatus, WithoutASelectedContextIsRefused) {
  TestPlane plane;
  wire::Agreed agreed = GetParam();
  agreed.allocation_context_id.reset();
  Client client = plane.Connect(plane.AddDisk(), agreed);
  const Reply reply = client.Do(wire::kBlockStatus, 0, 0, 512);
  EXPECT_EQ(reply.error, wire::kInval);
  EXPECT_EQ(reply.text, "no metadata context was negotiated");
}

TEST_P(BlockStatus, HasABoundedNumberOfExtentsAndGoesOnWhereItStopped) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 8 * kMiB;
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  const uint64_t pieces = setup.size_bytes / 16384;  // of 8 KiB data, 8 KiB hole
  for (uint64_t i = 0; i < pieces; ++i) client.Write(i * 16384, Bytes(8192, 1));
  uint64_t at = 0;
  Extents all;
  while (at < setup.size_bytes) {
    const Reply reply = client.Do(wire::kBlockStatus, 0, at, setup.size_bytes - at);
    ASSERT_EQ(reply.error, 0U);
    EXPECT_LE(reply.extents.size(), Request::kStatusExtentsMax);
    for (const StatusExtent& extent : reply.extents) at += extent.length;
    all.insert(all.end(), reply.extents.begin(), reply.extents.end());
  }
  EXPECT_EQ(all.size(), 2 * pieces);
}

/// Random writes, zeroes and trims: what is told to be zero has to be, extents cover the request
/// without gaps and differ from their neighbours.
TEST_P(BlockStatus, NeverCallsDataZero) {
  const char* given = std::getenv("KEYHOLD_TEST_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                                         : std::random_device()();
  SCOPED_TRACE("KEYHOLD_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  for (uint32_t sector : {512U, 4096U}) {
    TestPlane plane;
    DiskSetup setup;
    setup.sector_size_bytes = sector;
    Client client = plane.Connect(plane.AddDisk(setup), GetParam());
    Bytes model(kMiB, 0);
    for (int i = 0; i < 300; ++i) {
      const uint64_t offset = random() % kMiB;
      const uint64_t length = 1 + random() % std::min<uint64_t>(kMiB - offset, 40'000);
      const auto begin = model.begin() + static_cast<ptrdiff_t>(offset);
      switch (random() % 4) {
        case 0:
          client.Write(offset, Bytes(length, 0xaa));
          std::fill_n(begin, length, uint8_t{0xaa});
          break;
        case 1:
          EXPECT_EQ(
              client.Do(wire::kWriteZeroes, random() % 2 ? wire::kNoHole : 0, offset, length).error,
              0U);
          std::fill_n(begin, length, uint8_t{0});
          break;
        default: {
          const bool one = random() % 4 == 0;
          const Reply reply =
              client.Do(wire::kBlockStatus, one ? wire::kRequestOne : 0, offset, length);
          ASSERT_EQ(reply.error, 0U);
          if (one) {
            EXPECT_EQ(reply.extents.size(), 1U);
          }
          uint64_t at = 0;
          for (size_t k = 0; k < reply.extents.size(); ++k) {
            const StatusExtent& extent = reply.extents[k];
            if (k > 0) {
              EXPECT_NE(extent.flags, reply.extents[k - 1].flags);
            }
            ASSERT_LE(at + extent.length, length);
            const auto from = begin + static_cast<ptrdiff_t>(at);
            if (extent.flags != 0) {
              ASSERT_TRUE(std::all_of(from, from + static_cast<ptrdiff_t>(extent.length),
                                      [](uint8_t byte) { return byte == 0; }))
                  << "offset " << offset << " length " << length << " extent " << k;
            }
            at += extent.length;
          }
        }
      }
    }
    EXPECT_EQ(client.Read(0, kMiB), model);
  }
}

TEST(BlockStatusLengths, Of32BitsEndBelow4GiBOnA64KiBBorder) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 9 * kGiB;
  Client client = plane.Connect(plane.AddDisk(setup), kCompact);
  constexpr uint64_t kMost = (1ULL << 32) - 65536;
  for (uint64_t offset : {uint64_t{0}, uint64_t{512}, 4 * kGiB - 512, 4 * kGiB}) {
    const auto status = [&](uint64_t length) {
      return client.Do(wire::kBlockStatus, 0, offset, length).extents;
    };
    EXPECT_EQ(status(UINT32_MAX), (Extents{{kMost, kHole}}));
    EXPECT_EQ(status(kMost + 512), (Extents{{kMost, kHole}}));
    EXPECT_EQ(status(kMost), (Extents{{kMost, kHole}}));
    EXPECT_EQ(status(kMost - 512), (Extents{{kMost - 512, kHole}}));
  }
}

TEST(BlockStatusLengths, Of64BitsCoverAWholeDiskInOneReply) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 9 * kGiB;
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 9 * kGiB).extents, (Extents{{9 * kGiB, kHole}}));
  client.Write(6 * kGiB, Pattern(65536, 1));
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 9 * kGiB).extents,
            (Extents{{6 * kGiB, kHole}, {65536, 0}, {3 * kGiB - 65536, kHole}}));
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 1, 9 * kGiB).error, wire::kInval);
}

TEST(BlockStatusPayload, NamesTheContextAndHasTheEffectLength) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  client.Write(65536, Pattern(65536, 1));
  const Reply reply = client.StatusOf(0, 65536, kMiB - 65536, {kContext});
  EXPECT_EQ(reply.error, 0U);
  EXPECT_EQ(reply.context_id, kContext);
  EXPECT_EQ(reply.extents, (Extents{{65536, 0}, {kMiB - 131072, kHole}}));
  EXPECT_EQ(client.StatusOf(wire::kRequestOne, 0, kMiB, {kContext}).extents,
            (Extents{{65536, kHole}}));
}

TEST(BlockStatusPayload, WithUnknownDuplicateOrNoContextsIsDrainedAndRefused) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  for (const std::vector<uint32_t>& ids : std::vector<std::vector<uint32_t>>{
           {}, {kContext + 1}, {kContext, kContext}, {kContext, 9}, std::vector<uint32_t>(5000)}) {
    EXPECT_EQ(client.StatusOf(0, 0, kMiB, ids).error, wire::kInval) << ids.size();
  }
  EXPECT_EQ(client.StatusOf(0, 1, kMiB, {kContext}).error, wire::kInval) << "past the end";
  EXPECT_EQ(client.StatusOf(0, 0, UINT64_MAX, {kContext}).error, wire::kInval);
  EXPECT_EQ(client.StatusOf(0, 0, 0, {kContext}).error, wire::kInval);
  for (size_t odd : {1U, 7U, 8U, 11U, 13U}) {
    const uint16_t flag = wire::kPayloadLength;
    EXPECT_EQ(client.Do(wire::kBlockStatus, flag, 0, odd, Bytes(odd)).error, wire::kInval) << odd;
  }
  EXPECT_EQ(client.Do(wire::kBlockStatus, wire::kPayloadLength, 0, 0).error, wire::kInval);
  EXPECT_EQ(client.Read(0, 512).size(), 512U) << "in step all the time";
}

TEST(BlockStatusPayload, WithoutASelectedContextIsDrainedAndRefused) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), {wire::Replies::kExtended, {}});
  EXPECT_EQ(client.StatusOf(0, 0, kMiB, {kContext}).error, wire::kInval);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
}

}  // namespace
}  // namespace keyhold::test

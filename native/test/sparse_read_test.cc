// SPDX-License-Identifier: Apache-2.0
// READ with structured and extended replies: holes by their length, data by its bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "core/shard/request.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr wire::Agreed kStructured{wire::Replies::kStructured, {}};
constexpr wire::Agreed kExtended{wire::Replies::kExtended, {}};
constexpr uint64_t kMiB = 1 << 20;
constexpr uint16_t kData = wire::kChunkOffsetData;
constexpr uint16_t kHole = wire::kChunkOffsetHole;

using Chunks = std::vector<uint16_t>;

class SparseRead : public ::testing::TestWithParam<wire::Agreed> {};
INSTANTIATE_TEST_SUITE_P(Headers, SparseRead, ::testing::Values(kStructured, kExtended));

TEST_P(SparseRead, OfAFreshDiskIsOneHole) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  const Reply reply = client.Do(wire::kRead, 0, 100, 500'000);
  EXPECT_EQ(reply.chunks, (Chunks{kHole}));
  EXPECT_EQ(reply.data, Bytes(500'000, 0));
}

TEST_P(SparseRead, HasAChunkForEachHoleAndEachPieceOfData) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  Bytes model(65536, 0);
  const Bytes bytes = Pattern(8192, 1);
  for (size_t at : {8192U, 32768U}) {
    client.Write(at, bytes);
    std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<ptrdiff_t>(at));
  }
  const Reply all = client.Do(wire::kRead, 0, 0, 65536);
  EXPECT_EQ(all.chunks, (Chunks{kHole, kData, kHole, kData, kHole}));
  EXPECT_EQ(all.data, model);
  const Reply middle = client.Do(wire::kRead, 0, 10'000, 24'000);
  EXPECT_EQ(middle.chunks, (Chunks{kData, kHole, kData}));
  EXPECT_EQ(middle.data, Bytes(model.begin() + 10'000, model.begin() + 34'000));
}

TEST_P(SparseRead, WithoutHolesIsOneChunk) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  const Bytes bytes = Pattern(65536, 1);
  client.Write(0, bytes);
  const Reply reply = client.Do(wire::kRead, 0, 0, 65536);
  EXPECT_EQ(reply.chunks, (Chunks{kData}));
  EXPECT_EQ(reply.data, bytes);
}

TEST_P(SparseRead, ShowsNoHoleShorterThanTheNamedSize) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  client.Write(0, Pattern(65536, 1));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 8192, Request::kHoleChunkBytesMin - 512).error, 0U);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 65536).chunks, (Chunks{kData}));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 8192, Request::kHoleChunkBytesMin).error, 0U);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 65536).chunks, (Chunks{kData, kHole, kData}));
  EXPECT_EQ(client.Do(wire::kRead, 0, 8193, 4095).chunks, (Chunks{kData})) << "cut to less";
}

TEST_P(SparseRead, ShowsAHoleAlsoWhereTheStoreIsAllocated) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  client.Write(0, Pattern(65536, 1));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kNoHole, 0, 65536).error, 0U);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 65536).chunks, (Chunks{kHole}));
}

TEST_P(SparseRead, HasABoundedNumberOfHoles) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), GetParam());
  Bytes model(kMiB, 0);
  for (size_t at = 8192; at < kMiB; at += 16384) {
    client.Write(at, Bytes(8192, 0x33));
    std::fill_n(model.begin() + static_cast<ptrdiff_t>(at), 8192, uint8_t{0x33});
  }
  const Reply reply = client.Do(wire::kRead, 0, 0, kMiB);
  const auto holes = std::count(reply.chunks.begin(), reply.chunks.end(), kHole);
  EXPECT_EQ(static_cast<size_t>(holes), Request::kReplyHolesMax);
  EXPECT_EQ(reply.chunks.back(), kData);
  EXPECT_EQ(reply.data, model);
  // Many such replies in one message of the socket.
  for (int i = 0; i < 20; ++i) client.SendRequest(wire::kRead, 0, 0, kMiB);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(client.Receive()->data == model);
}

TEST_P(SparseRead, WithDontFragmentIsOneChunkUpToTheLongestPayload) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 40 * kMiB;
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  client.Write(65536, Pattern(4096, 1));
  for (uint64_t length : {uint64_t{1}, 65536 + kMiB, 32 * kMiB}) {
    const Reply reply = client.Do(wire::kRead, wire::kDontFragment, 3, length);
    EXPECT_EQ(reply.chunks, (Chunks{kData}));
    EXPECT_EQ(reply.data.size(), length);
  }
  EXPECT_EQ(client.Do(wire::kRead, wire::kDontFragment, 0, 32 * kMiB + 1).error, wire::kOverflow);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 32 * kMiB + 1).error, wire::kOverflow);
}

TEST_P(SparseRead, OfADiskWithoutTheHoleRuleIsData) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 65536).chunks, (Chunks{kData}));
}

TEST_P(SparseRead, ThatFailsSaysWhereAndCarriesNoData) {
  std::atomic<bool> fail{false};
  TestPlane plane;
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{fail ? EIO : 0, false, false}; };
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  fail = true;
  for (uint16_t type : {wire::kRead, wire::kTrim, wire::kWriteZeroes, wire::kCache}) {
    const Reply reply = client.Do(type, 0, 5000, 70'000);
    EXPECT_EQ(reply.chunks, (Chunks{wire::kChunkErrorOffset})) << type;
    EXPECT_EQ(reply.error, wire::kIo) << type;
    EXPECT_EQ(reply.text, "the store failed");
    EXPECT_GE(*reply.error_offset, 5000U);
    EXPECT_LT(*reply.error_offset, 5000U + 512);
  }
  EXPECT_EQ(client.Do(wire::kWrite, 0, 5000, 9, Bytes(9)).error_offset, 5000U);
  const Reply flush = client.Do(wire::kFlush, 0, 0, 0);
  EXPECT_EQ(flush.chunks, (Chunks{wire::kChunkError})) << "a flush has no place";
}

TEST_P(SparseRead, ThatFailsHalfWaySaysHowFarTheStoreGot) {
  TestPlane plane;
  std::atomic<int> reads{0};
  DiskSetup setup;
  setup.hook = [&](const StoreOp& op) {
    FaultStore::Verdict verdict;
    if (op.kind == StoreOp::Kind::kRead) {
      if (op.done_bytes() > 0) {
        verdict.errno_value = EIO;
      } else {
        verdict.shorten = true;
      }
    }
    return verdict;
  };
  Client client = plane.Connect(plane.AddDisk(setup), GetParam());
  const Reply reply = client.Do(wire::kRead, 0, 8192, 65536);
  EXPECT_EQ(reply.error, wire::kIo);
  EXPECT_EQ(reply.error_offset, 8192U + 32768U);
}

TEST_P(SparseRead, RandomLayoutsMatchAnArray) {
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
      const uint64_t length = 1 + random() % std::min<uint64_t>(kMiB - offset, 90'000);
      const auto begin = model.begin() + static_cast<ptrdiff_t>(offset);
      if (random() % 3 == 0) {
        const Bytes bytes = Pattern(std::min<uint64_t>(length, 9000), i);
        client.Write(offset, bytes);
        std::copy(bytes.begin(), bytes.end(), begin);
      } else if (random() % 3 == 0) {
        EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, offset, length).error, 0U);
        std::fill_n(begin, length, uint8_t{0});
      } else {
        const bool whole = random() % 4 == 0;
        const Reply reply = client.Do(wire::kRead, whole ? wire::kDontFragment : 0, offset, length);
        ASSERT_EQ(reply.error, 0U);
        if (whole) {
          EXPECT_EQ(reply.chunks.size(), 1U);
        }
        ASSERT_EQ(reply.data, Bytes(begin, begin + static_cast<ptrdiff_t>(length)))
            << "offset " << offset << " length " << length;
      }
    }
  }
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// Extended headers: 64-bit lengths, payloads where the flag says so, and chunks for every reply.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "core/shard/session.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr wire::Agreed kExtended{wire::Replies::kExtended, 1};
constexpr uint64_t kGiB = 1ULL << 30;
constexpr uint64_t kBigBytes = 5 * kGiB + 512;

DiskSetup Big() {
  DiskSetup setup;
  setup.size_bytes = kBigBytes;
  return setup;
}

uint64_t AllocatedBytes(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

TEST(Extended, EverySuccessWithoutDataIsAnEmptyChunk) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  for (uint16_t type : {wire::kTrim, wire::kWriteZeroes, wire::kCache}) {
    EXPECT_EQ(client.Do(type, 0, 512, 4096).chunk, wire::kChunkNone) << type;
  }
  EXPECT_EQ(client.Do(wire::kFlush, 0, 0, 0).chunk, wire::kChunkNone);
  EXPECT_EQ(client.Do(wire::kWrite, 0, 7, 9, Bytes(9)).chunk, wire::kChunkNone);
  EXPECT_EQ(client.Do(wire::kRead, 0, 7, 0).chunk, wire::kChunkNone);
}

TEST(Extended, EveryErrorIsAChunkWithAText) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  const uint64_t past = UINT64_MAX - 5;
  for (uint16_t type : {wire::kRead, wire::kTrim, wire::kWriteZeroes, wire::kCache,
                        wire::kBlockStatus, wire::kFlush}) {
    const Reply reply = client.Do(type, 0, 1, past);
    EXPECT_EQ(reply.error, type == wire::kWriteZeroes ? wire::kNoSpc : wire::kInval) << type;
    EXPECT_EQ(reply.chunk, wire::kChunkError);
  }
  EXPECT_EQ(client.Do(77, 0, 0, 0).error, wire::kInval);
}

TEST(Extended, AWriteBeyond4GiBComesBack) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(Big()), kExtended);
  const Bytes bytes = Pattern(50'000, 3);
  for (uint64_t at : std::initializer_list<uint64_t>{4 * kGiB - 25'001, kBigBytes - 50'000}) {
    client.Write(at, bytes);
    EXPECT_EQ(client.Read(at, 50'000), bytes);
  }
}

TEST(Extended, AReadOfMoreThan32MiBIsAnOverflow) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(Big()), kExtended);
  for (uint64_t length : std::initializer_list<uint64_t>{(32ULL << 20) + 1, 1ULL << 32,
                                                         (1ULL << 32) + 512, kBigBytes}) {
    EXPECT_EQ(client.Do(wire::kRead, 0, 0, length).error, wire::kOverflow) << length;
  }
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 32ULL << 20).data.size(), 32U << 20);
}

TEST(Extended, AWriteWithoutThePayloadFlagIsRefusedAndNothingIsDrained) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  Bytes request(wire::kExtendedRequestBytes);
  uint8_t* to = wire::Store32(request.data(), wire::kExtendedRequestMagic);
  to = wire::Store16(to, 0);
  to = wire::Store16(to, wire::kWrite);
  to = wire::Store64(to, 5);
  to = wire::Store64(to, 0);
  wire::Store64(to, 4096);
  client.SendRaw(request);
  EXPECT_EQ(client.Receive()->error, wire::kInval);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
}

TEST(Extended, APayloadOfACommandThatTakesNoneIsDrainedAndRefused) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  for (uint16_t type :
       {uint16_t{wire::kRead}, uint16_t{wire::kFlush}, uint16_t{wire::kTrim},
        uint16_t{wire::kCache}, uint16_t{wire::kWriteZeroes}, uint16_t{8}, uint16_t{0xffff}}) {
    for (size_t length : {0U, 1U, 31U, 32U, 300'000U}) {
      const Reply reply = client.Do(type, wire::kPayloadLength, 0, length, Bytes(length, 0x21));
      EXPECT_EQ(reply.error, wire::kInval) << type << " with " << length;
    }
  }
  const Bytes longest(wire::kPayloadBytesMax, 0x21);
  EXPECT_EQ(client.Do(wire::kTrim, wire::kPayloadLength, 0, longest.size(), longest).error,
            wire::kInval);
  EXPECT_EQ(client.Read(0, 512), Bytes(512, 0)) << "in step all the time";
}

class TooLong : public ::testing::TestWithParam<uint16_t> {};
INSTANTIATE_TEST_SUITE_P(Commands, TooLong,
                         ::testing::Values(wire::kRead, wire::kWrite, wire::kFlush, wire::kTrim,
                                           wire::kBlockStatus, uint16_t{99}));

TEST_P(TooLong, APayloadOfMoreThan32MiBEndsTheConnection) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  for (uint64_t length : std::initializer_list<uint64_t>{uint64_t{wire::kPayloadBytesMax} + 1,
                                                         (1ULL << 32) + 5, UINT64_MAX}) {
    Client client = plane.Connect(disk, kExtended);
    client.SendRequest(GetParam(), wire::kPayloadLength, 0, length);
    EXPECT_TRUE(client.AtEnd()) << length;
  }
}

TEST(Extended, ACompactRequestEndsTheConnection) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  Bytes request(wire::kExtendedRequestBytes);
  wire::Store32(request.data(), wire::kRequestMagic);
  client.SendRaw(request);
  EXPECT_TRUE(client.AtEnd());
  Client compact = plane.Connect(disk, true);
  wire::Store32(request.data(), wire::kExtendedRequestMagic);
  compact.SendRaw(request);
  EXPECT_TRUE(compact.AtEnd());
}

TEST(Extended, RequestsSplitAtEveryByteAreUnderstood) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  Bytes bytes(wire::kExtendedRequestBytes + 20, 0x5a);
  uint8_t* to = wire::Store32(bytes.data(), wire::kExtendedRequestMagic);
  to = wire::Store16(to, wire::kPayloadLength);
  to = wire::Store16(to, wire::kWrite);
  to = wire::Store64(to, 7);
  to = wire::Store64(to, 600);
  wire::Store64(to, 20);
  for (uint8_t byte : bytes) {
    client.SendRaw({&byte, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(client.Receive()->cookie, 7U);
  EXPECT_EQ(client.Read(600, 20), Bytes(20, 0x5a));
}

TEST(Extended, TrimOfAWholeBigDiskIsOneRequest) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(Big());
  Client client = plane.Connect(disk, kExtended);
  for (uint64_t at :
       std::initializer_list<uint64_t>{uint64_t{0}, 4 * kGiB - 4096, 5 * kGiB - 65536}) {
    client.Write(at, Pattern(65536, 1));
  }
  EXPECT_GE(AllocatedBytes(plane.StorePath(*disk)), 3U * 65536);
  EXPECT_EQ(client.Do(wire::kTrim, wire::kFua, 0, kBigBytes).error, 0U);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, kBigBytes).extents.size(), 1U);
  EXPECT_LT(AllocatedBytes(plane.StorePath(*disk)), 65536U);
  EXPECT_EQ(client.Read(4 * kGiB - 4096, 65536), Bytes(65536, 0));
}

TEST(Extended, ZeroesOverABigDiskReachBothUnalignedEnds) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(Big());
  Client client = plane.Connect(disk, kExtended);
  const Bytes bytes = Pattern(4096, 1);
  client.Write(0, bytes);
  client.Write(kBigBytes - 4096, bytes);
  client.Write(3 * kGiB - 2048, bytes);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kFastZero, 700, kBigBytes - 1500).error, 0U);
  Bytes head = bytes;
  std::fill(head.begin() + 700, head.end(), uint8_t{0});
  EXPECT_EQ(client.Read(0, 4096), head);
  Bytes tail = bytes;
  std::fill(tail.begin(), tail.end() - 800, uint8_t{0});
  EXPECT_EQ(client.Read(kBigBytes - 4096, 4096), tail);
  EXPECT_EQ(client.Read(3 * kGiB - 2048, 4096), Bytes(4096, 0));
}

TEST(Extended, LongEffectsAreWorkedOnInPiecesOfABoundedSize) {
  TestPlane plane;
  std::atomic<uint64_t> longest{0};
  std::atomic<uint64_t> punched{0};
  DiskSetup setup = Big();
  setup.watch = [&](const StoreOp& op) {
    if (op.kind != StoreOp::Kind::kPunch) return;
    longest = std::max<uint64_t>(longest, op.length_bytes);
    punched += op.length_bytes;
  };
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(client.Do(wire::kTrim, 0, 0, kBigBytes).error, 0U);
  EXPECT_EQ(longest, Request::kRangePieceBytes);
  EXPECT_EQ(punched, kBigBytes);
}

}  // namespace
}  // namespace keyhold::test

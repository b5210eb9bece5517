// SPDX-License-Identifier: Apache-2.0
// CACHE, FAST_ZERO, NO_HOLE, and effects so long that they are worked on in pieces.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "core/shard/request.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

using Kind = StoreOp::Kind;
constexpr wire::Agreed kExtended{wire::Replies::kExtended, 1};
constexpr uint32_t kMiB = 1 << 20;

/// Fails `kinds` with EOPNOTSUPP, and counts all operations.
struct Unsupported {
  std::vector<Kind> kinds;
  std::array<std::atomic<int>, 7> begun{};
  void Into(DiskSetup& setup) {
    setup.watch = [this](const StoreOp& op) { ++begun[static_cast<size_t>(op.kind)]; };
    setup.hook = [this](const StoreOp& op) {
      const bool mine = std::find(kinds.begin(), kinds.end(), op.kind) != kinds.end();
      return FaultStore::Verdict{mine ? EOPNOTSUPP : 0, false, false};
    };
  }
  int count(Kind kind) const { return begun[static_cast<size_t>(kind)]; }
};

TEST(FastZero, PunchesWholeSectorsAndReadsAsZeros) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  const Bytes bytes = Pattern(8192, 1);
  client.Write(0, bytes);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kFastZero, 100, 5000).error, 0U);
  Bytes expected = bytes;
  std::fill_n(expected.begin() + 100, 5000, uint8_t{0});
  EXPECT_EQ(client.Read(0, 8192), expected);
}

TEST(FastZero, WithoutAWholeSectorIsNotSupportedAndLeavesTheData) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  const Bytes bytes = Pattern(8192, 1);
  client.Write(0, bytes);
  for (auto [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 511}, {1, 511}, {100, 1}, {1, 1022}, {1023, 512}}) {
    const Reply reply = client.Do(wire::kWriteZeroes, wire::kFastZero, offset, length);
    EXPECT_EQ(reply.error, wire::kNotSup) << offset << " " << length;
    EXPECT_FALSE(reply.text.empty());
  }
  EXPECT_EQ(client.Read(0, 8192), bytes);
}

TEST(FastZero, OfADiskWithoutTheHoleRuleIsNotSupportedAndLeavesTheData) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  const Bytes bytes = Pattern(8192, 1);
  client.Write(0, bytes);
  for (uint16_t also : std::array<uint16_t, 3>{0, wire::kNoHole, wire::kFua}) {
    EXPECT_EQ(
        client.Do(wire::kWriteZeroes, static_cast<uint16_t>(wire::kFastZero | also), 0, 8192).error,
        wire::kNotSup);
  }
  EXPECT_EQ(client.Read(0, 8192), bytes);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, 8192).error, 0U) << "slow zeroing works";
}

TEST(FastZero, OfAStoreThatCannotIsNotSupportedAndNothingIsWritten) {
  for (uint16_t also : std::array<uint16_t, 2>{0, wire::kNoHole}) {
    Unsupported unsupported{{Kind::kPunch, Kind::kZero}};
    TestPlane plane;
    DiskSetup setup;
    unsupported.Into(setup);
    Client client = plane.Connect(plane.AddDisk(setup), kExtended);
    const Bytes bytes = Pattern(65536, 1);
    client.Write(0, bytes);
    const int writes = unsupported.count(Kind::kWrite);
    EXPECT_EQ(
        client.Do(wire::kWriteZeroes, static_cast<uint16_t>(wire::kFastZero | also), 3, 60'000)
            .error,
        wire::kNotSup);
    EXPECT_EQ(unsupported.count(Kind::kWrite), writes);
    EXPECT_EQ(client.Read(0, 65536), bytes);
    EXPECT_EQ(client.Do(wire::kWriteZeroes, also, 3, 60'000).error, 0U);
    EXPECT_EQ(client.Read(3, 60'000), Bytes(60'000, 0));
  }
}

TEST(FastZero, ErrorsOfTheRequestComeFirst) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kFastZero, 1, kMiB).error, wire::kNoSpc);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kFastZero, 0, 0).error, 0U);
  setup.read_only = true;
  Client reader = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(reader.Do(wire::kWriteZeroes, wire::kFastZero, 0, 512).error, wire::kPerm);
}

TEST(FastZero, IsNotAFlagOfOtherCommands) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), kExtended);
  for (uint16_t type : {wire::kRead, wire::kTrim, wire::kCache, wire::kBlockStatus}) {
    EXPECT_EQ(client.Do(type, wire::kFastZero, 0, 512).error, wire::kInval) << type;
  }
  EXPECT_EQ(client.Do(wire::kFlush, wire::kFastZero, 0, 0).error, wire::kInval);
  EXPECT_EQ(client.Do(wire::kWrite, wire::kFastZero, 0, 512, Bytes(512)).error, wire::kInval);
}

TEST(NoHole, AsksTheStoreToKeepTheSpace) {
  Unsupported all{{}};
  TestPlane plane;
  DiskSetup setup;
  all.Into(setup);
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kNoHole, 0, 65536).error, 0U);
  EXPECT_EQ(all.count(Kind::kPunch), 0);
  EXPECT_EQ(all.count(Kind::kZero), 1);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, 65536).error, 0U);
  EXPECT_EQ(all.count(Kind::kPunch), 1);
}

TEST(NoHole, InAStoreThatCannotZeroWritesInPieces) {
  Unsupported unsupported{{Kind::kZero}};
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 4 * kMiB;
  unsupported.Into(setup);
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  client.Write(0, Pattern(4 * kMiB, 1));
  const int writes = unsupported.count(Kind::kWrite);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kNoHole, 5, 4 * kMiB - 10).error, 0U);
  EXPECT_EQ(client.Read(5, 4 * kMiB - 10), Bytes(4 * kMiB - 10, 0));
  EXPECT_EQ(unsupported.count(Kind::kWrite) - writes, 4 + 2) << "pieces and two edges";
}

TEST(Pieces, LetOtherRequestsInBetween) {
  // The write waits for the first piece of the zeroes, and then has its turn before the others.
  std::atomic<bool> hold{true};
  std::mutex mutex;
  std::vector<uint64_t> order;
  TestPlane plane(2);
  DiskSetup setup;
  setup.size_bytes = 16 * kMiB;
  setup.watch = [&](const StoreOp& op) {
    std::lock_guard lock(mutex);
    if (op.kind == Kind::kWrite) order.push_back(op.length_bytes);
  };
  setup.hook = [&](const StoreOp& op) {
    if (op.kind == Kind::kPunch) return FaultStore::Verdict{EOPNOTSUPP, false, false};
    return FaultStore::Verdict{0, op.kind == Kind::kWrite && hold, false};
  };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client zeroes = plane.Connect(disk, kExtended);
  Client writer = plane.Connect(disk, kExtended);
  EXPECT_EQ(writer.Read(0, 512).size(), 512U);
  zeroes.SendRequest(wire::kWriteZeroes, 0, 0, 16 * kMiB);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  writer.SendRequest(wire::kWrite, 0, 0, 4096, Pattern(4096, 1));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  hold = false;
  EXPECT_EQ(writer.Receive()->error, 0U);
  EXPECT_EQ(zeroes.Receive()->error, 0U);
  EXPECT_EQ(writer.Read(0, 4096), Pattern(4096, 1)) << "the write came after the first piece";
  EXPECT_EQ(writer.Read(4096, kMiB), Bytes(kMiB, 0));
  std::lock_guard lock(mutex);
  EXPECT_NE(order.back(), 4096U) << "the write did not wait for the last piece";
}

TEST(Cache, ReadsAheadInPiecesAndOnlyWhatIsAsked) {
  std::mutex mutex;
  uint64_t begin = UINT64_MAX;
  uint64_t end = 0;
  uint64_t longest = 0;
  TestPlane plane;
  DiskSetup setup;
  setup.watch = [&](const StoreOp& op) {
    if (op.kind != Kind::kCache) return;
    std::lock_guard lock(mutex);
    begin = std::min(begin, op.offset_bytes);
    end = std::max(end, op.offset_bytes + op.length_bytes);
    longest = std::max(longest, op.length_bytes);
  };
  Client client = plane.Connect(plane.AddDisk(setup));
  EXPECT_EQ(client.Do(wire::kCache, wire::kFua, 1000, 500'000).error, 0U);
  std::lock_guard lock(mutex);
  EXPECT_EQ(begin, 8192U + 512);
  EXPECT_EQ(end, 8192U + 501'248);
  EXPECT_EQ(longest, StoreOp::kCacheBytesMax);
}

TEST(Cache, OfAWholeBigDiskReadsAheadItsBeginningAlone) {
  std::atomic<uint64_t> asked{0};
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 6ULL << 30;
  setup.watch = [&](const StoreOp& op) {
    if (op.kind == Kind::kCache) asked += op.length_bytes;
  };
  Client client = plane.Connect(plane.AddDisk(setup), kExtended);
  EXPECT_EQ(client.Do(wire::kCache, 0, 0, setup.size_bytes).error, 0U);
  EXPECT_EQ(asked, Request::kCacheBytesMax);
}

TEST(Cache, WhereTheStoreCannotIsASuccessThatDoesNothing) {
  Unsupported unsupported{{Kind::kCache}};
  TestPlane plane;
  DiskSetup setup;
  unsupported.Into(setup);
  Client client = plane.Connect(plane.AddDisk(setup));
  EXPECT_EQ(client.Do(wire::kCache, 0, 0, kMiB).error, 0U);
  EXPECT_EQ(unsupported.count(Kind::kCache), 1);
}

TEST(Cache, RefusesUnknownFlagsAndWhatIsOutOfRange) {
  TestPlane plane;
  DiskSetup setup;
  setup.read_only = true;
  Client client = plane.Connect(plane.AddDisk(setup));
  for (uint16_t flag : std::initializer_list<uint16_t>{0x2, 0x4, 0x8, 0x10, 0x20, 0x8000}) {
    EXPECT_EQ(client.Do(wire::kCache, flag, 0, 512).error, wire::kInval) << flag;
  }
  EXPECT_EQ(client.Do(wire::kCache, 0, kMiB, 1).error, wire::kInval);
  EXPECT_EQ(client.Do(wire::kCache, 0, UINT64_MAX, 2).error, wire::kInval);
  EXPECT_EQ(client.Do(wire::kCache, 0, 0, kMiB).error, 0U) << "also read-only";
}

TEST(Counters, HaveRowsForCacheAndBlockStatus) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  EXPECT_EQ(client.Do(wire::kCache, 0, 0, 4096).error, 0U);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 8192).error, 0U);
  EXPECT_EQ(client.Do(wire::kBlockStatus, 0, 0, 0).error, wire::kInval);
  const auto of = [&](Command command) -> const CommandCounters& {
    return disk->counters(0).commands[static_cast<size_t>(command)];
  };
  EXPECT_EQ(of(Command::kCache).requests_ok.Get(), 1U);
  EXPECT_EQ(of(Command::kCache).bytes.Get(), 4096U);
  EXPECT_EQ(of(Command::kBlockStatus).requests_ok.Get(), 1U);
  EXPECT_EQ(of(Command::kBlockStatus).requests_error.Get(), 1U);
  EXPECT_EQ(of(Command::kRead).requests_ok.Get(), 0U);
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// The transmission phase as a client sees it: validation, draining, bounds, endings.
#include "core/shard/session.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <set>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint32_t kDiskBytes = 1 << 20;

struct BadRequest {
  const char* name;
  uint16_t type;
  uint16_t flags;
  uint64_t offset;
  uint32_t length;
  uint32_t error;
  bool read_only = false;
  bool structured = false;
};

std::ostream& operator<<(std::ostream& out, const BadRequest& bad) { return out << bad.name; }

class Refused : public ::testing::TestWithParam<BadRequest> {};

INSTANTIATE_TEST_SUITE_P(
    All, Refused,
    ::testing::Values(
        BadRequest{"read past end", wire::kRead, 0, kDiskBytes - 1, 2, wire::kInval},
        BadRequest{"read at 2^64-1", wire::kRead, 0, UINT64_MAX, 1, wire::kInval},
        BadRequest{"write past end", wire::kWrite, 0, kDiskBytes - 1, 2, wire::kNoSpc},
        BadRequest{"write wraps", wire::kWrite, 0, UINT64_MAX - 3, 8, wire::kNoSpc},
        BadRequest{"zeroes past end", wire::kWriteZeroes, 0, 1, kDiskBytes, wire::kNoSpc},
        BadRequest{"trim past end", wire::kTrim, 0, 1, kDiskBytes, wire::kInval},
        BadRequest{"flush with offset", wire::kFlush, 0, 1, 0, wire::kInval},
        BadRequest{"flush with length", wire::kFlush, 0, 0, 1, wire::kInval},
        BadRequest{"cache past end", wire::kCache, 0, 1, kDiskBytes, wire::kInval},
        BadRequest{"block status", wire::kBlockStatus, 0, 0, 512, wire::kInval},
        BadRequest{"unknown command", 99, 0, 0, 512, wire::kInval},
        BadRequest{"unknown flag", wire::kRead, 0x80, 0, 512, wire::kInval},
        BadRequest{"no-hole on write", wire::kWrite, wire::kNoHole, 0, 512, wire::kInval},
        BadRequest{"no-hole on trim", wire::kTrim, wire::kNoHole, 0, 512, wire::kInval},
        BadRequest{"fast zero on write", wire::kWrite, wire::kFastZero, 0, 512, wire::kInval},
        BadRequest{"payload flag on read", wire::kRead, 0x20, 0, 512, wire::kInval},
        BadRequest{"payload flag on write", wire::kWrite, 0x20, 0, 512, wire::kInval},
        BadRequest{"status without context", wire::kBlockStatus, 0, 0, 512, wire::kInval, false,
                   true},
        BadRequest{"df on simple", wire::kRead, wire::kDontFragment, 0, 512, wire::kInval},
        BadRequest{"write read-only", wire::kWrite, 0, 0, 512, wire::kPerm, true},
        BadRequest{"trim read-only", wire::kTrim, 0, 0, 512, wire::kPerm, true},
        BadRequest{"zeroes read-only", wire::kWriteZeroes, 0, 0, 512, wire::kPerm, true, true},
        BadRequest{"read past end, chunk", wire::kRead, 0, kDiskBytes, 1, wire::kInval, false,
                   true},
        BadRequest{"write past end, chunk", wire::kWrite, 0, kDiskBytes, 9, wire::kNoSpc, false,
                   true}));

TEST_P(Refused, WithTheErrnoOfTheProtocolAndTheConnectionServesOn) {
  const BadRequest& bad = GetParam();
  TestPlane plane;
  DiskSetup setup;
  setup.read_only = bad.read_only;
  Client client = plane.Connect(plane.AddDisk(setup), bad.structured);
  const Bytes payload = bad.type == wire::kWrite ? Pattern(bad.length, 1) : Bytes{};
  const Reply reply = client.Do(bad.type, bad.flags, bad.offset, bad.length, payload);
  EXPECT_EQ(reply.error, bad.error);
  EXPECT_EQ(reply.structured, bad.structured);
  EXPECT_EQ(reply.text.empty(), !bad.structured);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
}

TEST(Session, AReadOfMoreThan32MiBIsRefusedAndServesOn) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 64U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client simple = plane.Connect(disk);
  EXPECT_EQ(simple.Do(wire::kRead, 0, 0, wire::kPayloadBytesMax + 1).error, wire::kInval);
  Client structured = plane.Connect(disk, true);
  EXPECT_EQ(structured.Do(wire::kRead, 0, 0, wire::kPayloadBytesMax + 1).error, wire::kOverflow);
  EXPECT_EQ(structured.Read(0, 512).size(), 512U);
}

TEST(Session, AWriteOfMoreThan32MiBEndsTheConnection) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk());
  client.SendRequest(wire::kWrite, 0, 0, wire::kPayloadBytesMax + 1);
  EXPECT_TRUE(client.AtEnd());
}

TEST(Session, ABadMagicEndsTheConnection) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk());
  client.SendRaw(Bytes(wire::kRequestBytes, 0x11));
  EXPECT_TRUE(client.AtEnd());
  std::optional<ConnectionClosed> closed = plane.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->cause, "the client sent a request with a bad magic number");
}

TEST(Session, RequestsOfLengthZeroSucceed) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  for (bool structured : {false, true}) {
    Client client = plane.Connect(disk, structured);
    for (uint16_t type :
         {wire::kRead, wire::kWrite, wire::kTrim, wire::kWriteZeroes, wire::kCache}) {
      EXPECT_EQ(client.Do(type, 0, 512, 0).error, 0U) << type;
    }
  }
}

TEST(Session, FuaIsTakenOnEveryCommand) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk());
  EXPECT_EQ(client.Do(wire::kWrite, wire::kFua, 0, 512, Pattern(512, 1)).error, 0U);
  for (uint16_t type : {wire::kRead, wire::kTrim, wire::kWriteZeroes, wire::kCache}) {
    EXPECT_EQ(client.Do(type, wire::kFua, 0, 512).error, 0U) << type;
  }
  EXPECT_EQ(client.Do(wire::kFlush, wire::kFua, 0, 0).error, 0U);
}

TEST(Session, FuaAndFlushReachTheStoreBeforeTheReply) {
  TestPlane plane;
  std::atomic<int> flushes{0};
  DiskSetup setup;
  setup.hook = [&](const StoreOp& op) {
    if (op.kind == StoreOp::Kind::kFlush) ++flushes;
    return FaultStore::Verdict{};
  };
  Client client = plane.Connect(plane.AddDisk(setup));
  client.Write(0, Pattern(512, 1));
  EXPECT_EQ(flushes, 0);
  client.Write(0, Pattern(512, 1), wire::kFua);
  EXPECT_GE(flushes.exchange(0), 1);
  EXPECT_EQ(client.Do(wire::kFlush, 0, 0, 0).error, 0U);
  EXPECT_GE(flushes, 1);
}

TEST(Session, DontFragmentIsTakenWithStructuredReplies) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk(), true);
  const Reply reply = client.Do(wire::kRead, wire::kDontFragment, 3, 100'000);
  EXPECT_EQ(reply.chunk, wire::kChunkOffsetData);
  EXPECT_EQ(reply.data.size(), 100'000U);
}

TEST(Session, FlushOnOneShardCoversWhatAnotherHasAnswered) {
  TestPlane plane(2);
  std::atomic<bool> hold{true};
  std::atomic<int> flushes{0};
  DiskSetup setup;
  setup.watch = [&](const StoreOp& op) { flushes += op.kind == StoreOp::Kind::kFlush ? 1 : 0; };
  setup.hook = [&](const StoreOp& op) {
    return FaultStore::Verdict{0, op.kind == StoreOp::Kind::kFlush && hold, false};
  };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client writer = plane.Connect(disk);
  Client flusher = plane.Connect(disk);
  ASSERT_TRUE(Eventually([&] { return plane.plane().Connections().size() == 2; }));
  const auto connections = plane.plane().Connections();
  ASSERT_NE(connections[0].shard, connections[1].shard);

  const Bytes plain = Pattern(512, 4);
  writer.Write(1024, plain);
  EXPECT_EQ(flushes, 0) << "without FUA a WRITE is answered before it is stable";
  flusher.SendRequest(wire::kFlush, 0, 0, 0);
  ASSERT_TRUE(Eventually([&] { return flushes == 1; }));
  // The store has what the other session was told, and not that session a cache of its own.
  const Bytes store = ReadFile(plane.StorePath(*disk));
  EXPECT_TRUE(
      std::ranges::equal(std::span(store).subspan(8192 + 1024, 512), OracleEncrypt(plain, 2)));
  EXPECT_TRUE(flusher.Silent(100)) << "answered before the store's flush has ended";
  hold = false;
  EXPECT_EQ(flusher.Receive()->error, 0U);
  EXPECT_EQ(flushes, 1);
}

TEST(Session, FlushWorksOnAReadOnlyDisk) {
  TestPlane plane;
  DiskSetup setup;
  setup.read_only = true;
  Client client = plane.Connect(plane.AddDisk(setup));
  EXPECT_EQ(client.Do(wire::kFlush, 0, 0, 0).error, 0U);
}

TEST(Session, BytesAfterNegotiationAreTheFirstRequest) {
  TestPlane plane;
  Bytes request(wire::kRequestBytes, 0);
  uint8_t* to = wire::Store32(request.data(), wire::kRequestMagic);
  wire::Store32(to + 20, 512);
  Client client = plane.Connect(plane.AddDisk(), true, request);
  EXPECT_EQ(client.Receive()->data.size(), 512U);
}

TEST(Session, RequestsSplitAtEveryByteAreUnderstood) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  Bytes bytes(wire::kRequestBytes + 20, 0x5a);
  uint8_t* to = wire::Store32(bytes.data(), wire::kRequestMagic);
  to = wire::Store16(to, 0);
  to = wire::Store16(to, wire::kWrite);
  to = wire::Store64(to, 7);
  to = wire::Store64(to, 600);
  wire::Store32(to, 20);
  for (uint8_t byte : bytes) {
    client.SendRaw({&byte, 1});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(client.Receive()->cookie, 7U);
  EXPECT_EQ(client.Read(600, 20), Bytes(20, 0x5a));
}

TEST(Session, DisconnectFinishesWhatIsInFlight) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(4096, 8);
  client.SendRequest(wire::kWrite, 0, 0, 4096, bytes);
  client.SendRequest(wire::kDisconnect, 0, 0, 0);
  EXPECT_TRUE(client.Silent(100));
  hold = false;
  EXPECT_EQ(client.Receive()->error, 0U);
  EXPECT_TRUE(client.AtEnd());
  Client again = plane.Connect(disk);
  EXPECT_EQ(again.Read(0, 4096), bytes);
}

TEST(Session, AHalfClosedClientStillGetsItsReplies) {
  TestPlane plane;
  Client client = plane.Connect(plane.AddDisk());
  for (int i = 0; i < 10; ++i) client.SendRequest(wire::kRead, 0, 0, 4096);
  ::shutdown(client.fd(), SHUT_WR);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.Receive()->data.size(), 4096U);
  EXPECT_TRUE(client.AtEnd());
}

TEST(Session, AClientThatVanishesLeavesNothingBehind) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  {
    Client client = plane.Connect(disk);
    for (int i = 0; i < 20; ++i) client.SendRequest(wire::kRead, 0, 0, 65536);
    for (int i = 0; i < 20; ++i) client.SendRequest(wire::kWrite, 0, 1, 1000, Pattern(1000, 1));
    client.SendRequest(wire::kWrite, 0, 0, 100'000, Pattern(50'000, 1));
    EXPECT_TRUE(Eventually([&] {
      return Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; }) == 41;
    }));
  }
  hold = false;
  EXPECT_TRUE(Eventually([&] {
    return plane.plane().Connections().empty() &&
           Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; }) == 0;
  }));
}

TEST(Session, NoMoreThanTheNamedNumberOfRequestsIsInFlight) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  std::set<uint64_t> cookies;
  for (int i = 0; i < 220; ++i) cookies.insert(client.SendRequest(wire::kRead, 0, 0, 512));
  auto in_flight = [&] {
    return Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
  };
  EXPECT_TRUE(Eventually([&] { return in_flight() == Session::kInFlightRequestsMax; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(in_flight(), Session::kInFlightRequestsMax);
  hold = false;
  for (int i = 0; i < 220; ++i) cookies.erase(client.Receive()->cookie);
  EXPECT_TRUE(cookies.empty());
}

TEST(Session, NoMoreThanTheNamedNumberOfBytesIsInFlight) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 32U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client slow = plane.Connect(disk, true);
  for (int i = 0; i < 40; ++i) slow.SendRequest(wire::kRead, wire::kDontFragment, 0, 4U << 20);
  auto in_flight = [&] {
    return Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
  };
  EXPECT_TRUE(Eventually([&] { return in_flight() == Session::kInFlightBytesMax >> 22; }));
  // A slow reader holds up nobody else.
  Client other = plane.Connect(disk);
  EXPECT_EQ(other.Read(0, 4096).size(), 4096U);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(slow.Receive()->data.size(), 4U << 20);
}

TEST(Session, AStoreErrorIsEioAndLaterRequestsAreServed) {
  TestPlane plane;
  std::atomic<int> errno_value{EIO};
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{errno_value, false, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, true);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, wire::kIo);
  EXPECT_EQ(client.Do(wire::kWrite, 0, 3, 100, Pattern(100, 1)).error, wire::kIo);
  EXPECT_EQ(client.Do(wire::kFlush, 0, 0, 0).error, wire::kIo);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 3, 2000).error, wire::kIo);
  errno_value = ENOSPC;
  EXPECT_EQ(client.Do(wire::kWrite, 0, 0, 512, Pattern(512, 1)).error, wire::kNoSpc);
  errno_value = 0;
  EXPECT_EQ(client.Read(0, 512), Bytes(512, 0));
  const auto store_error = [](const Event& e) { return std::holds_alternative<StoreFailed>(e); };
  EXPECT_EQ(plane.CountEvents(store_error), 1U) << "one a second at most";
  EXPECT_EQ(plane.WaitFor<StoreFailed>()->operation, "read");
}

TEST(Session, ShortTransfersOfTheStoreAreContinued) {
  TestPlane plane;
  DiskSetup setup;
  setup.hook = [](const StoreOp& op) {
    const bool transfer = op.kind == StoreOp::Kind::kRead || op.kind == StoreOp::Kind::kWrite;
    return FaultStore::Verdict{0, false, transfer};
  };
  Client client = plane.Connect(plane.AddDisk(setup));
  const Bytes bytes = Pattern(50'000, 4);
  client.Write(100, bytes);
  EXPECT_EQ(client.Read(100, 50'000), bytes);
}

TEST(Session, AStoreThatWasCutShortIsAnErrorAndNeverZeros) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  ASSERT_EQ(::truncate(plane.StorePath(*disk).c_str(), 8192 + 4096), 0);
  EXPECT_EQ(client.Do(wire::kRead, 0, 4096, 512).error, wire::kIo);
  EXPECT_EQ(client.Do(wire::kRead, 0, 3584, 1024).error, wire::kIo);
}

TEST(Session, CountersTellWhatWasAnswered) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  client.Write(0, Pattern(1000, 1));
  (void)client.Read(0, 700);
  EXPECT_EQ(client.Do(wire::kRead, 0, kDiskBytes, 1).error, wire::kInval);
  const CommandCounters& read = disk->counters(0).commands[0];
  const CommandCounters& write = disk->counters(0).commands[1];
  EXPECT_EQ(read.requests_ok.Get(), 1U);
  EXPECT_EQ(read.requests_error.Get(), 1U);
  EXPECT_EQ(read.bytes.Get(), 700U);
  EXPECT_EQ(write.bytes.Get(), 1000U);
  uint64_t in_buckets = 0;
  for (const Counter& bucket : read.latency_buckets) in_buckets += bucket.Get();
  EXPECT_EQ(in_buckets, 2U);
  EXPECT_EQ(disk->counters(0).encrypted_bytes.Get(), 1024U);
}

}  // namespace
}  // namespace keyhold::test

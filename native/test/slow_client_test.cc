// SPDX-License-Identifier: Apache-2.0
// Clients that send or read slowly, not at all, or too much: what they hold, and for how long.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <map>

#include "core/shard/session.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint32_t kMiB = 1U << 20;
constexpr int64_t kShortHoldNs = 300'000'000;

void Pause(int64_t ns) { std::this_thread::sleep_for(std::chrono::nanoseconds(ns)); }

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}

DiskSetup SetupOf(uint64_t in_flight_bytes_max = Disk::kInFlightBytesMax,
                  int64_t hold_ns_max = kShortHoldNs) {
  DiskSetup setup;
  setup.size_bytes = 32U << 20;
  setup.in_flight_bytes_max = in_flight_bytes_max;
  setup.hold_ns_max = hold_ns_max;
  return setup;
}

/// The header of a WRITE alone.
Bytes WriteHeader(uint64_t cookie, uint64_t offset, uint32_t length) {
  Bytes bytes(wire::kRequestBytes);
  uint8_t* to = wire::Store32(bytes.data(), wire::kRequestMagic);
  to = wire::Store16(to, 0);
  to = wire::Store16(to, wire::kWrite);
  to = wire::Store64(to, cookie);
  to = wire::Store64(to, offset);
  wire::Store32(to, length);
  return bytes;
}

Bytes ReadRequest(uint64_t cookie, uint64_t offset, uint32_t length) {
  Bytes bytes = WriteHeader(cookie, offset, length);
  wire::Store16(bytes.data() + 6, wire::kRead);
  return bytes;
}

bool ClosedAsTooSlow(TestPlane& plane) {
  return plane
      .WaitFor<ConnectionClosed>([](const ConnectionClosed& closed) {
        return closed.cause.find("too slow") != std::string::npos;
      })
      .has_value();
}

TEST(SlowReader, HoldsNoMoreThanTheNamedBytesAndKeepsItsRepliesForAsLongAsItLikes) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client slow = plane.Connect(disk);
  for (int i = 0; i < 40; ++i) slow.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  ASSERT_TRUE(
      Eventually([&] { return InFlight(*disk) == Session::kInFlightBytesMax / (4 * kMiB); }));
  const uint64_t most = Session::kInFlightBytesMax + Session::kReceiveBufferBytes;
  EXPECT_LE(plane.plane().buffer_bytes(), most);
  Pause(4 * kShortHoldNs);
  EXPECT_LE(plane.plane().buffer_bytes(), most);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(slow.Receive()->data.size(), 4 * kMiB);
  EXPECT_TRUE(
      Eventually([&] { return plane.plane().buffer_bytes() == Session::kReceiveBufferBytes; }));
}

TEST(SlowReader, IsClosedWhenOthersWaitForTheMemory) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf(8 * kMiB));
  Client slow = plane.Connect(disk);
  slow.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  slow.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 2; }));
  Client other = plane.Connect(disk);
  EXPECT_EQ(other.Read(0, 4096).size(), 4096U);
  EXPECT_TRUE(ClosedAsTooSlow(plane));
  EXPECT_EQ(plane.plane().Connections().size(), 1U);
}

TEST(SlowReader, WithRequestsThatCarryNoDataHoldsUpNobody) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf(8 * kMiB));
  Client slow = plane.Connect(disk);
  // No more than are in flight at once: those are always taken, so that nothing waits for a reader.
  for (uint32_t i = 0; i < Session::kInFlightRequestsMax; ++i) {
    slow.SendRequest(wire::kFlush, 0, 0, 0);
  }
  Client other = plane.Connect(disk);
  EXPECT_EQ(other.Read(0, 4 * kMiB).size(), 4 * kMiB);
  for (uint32_t i = 0; i < Session::kInFlightRequestsMax; ++i) {
    EXPECT_EQ(slow.Receive()->error, 0U);
  }
}

TEST(SlowReader, ThatSendsWithoutEndIsHeldUpByItsOwnSocket) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client client = plane.Connect(disk);
  ASSERT_EQ(::fcntl(client.fd(), F_SETFL, O_NONBLOCK), 0);
  const Bytes one = ReadRequest(1, 0, 4096);
  Bytes many;
  for (int i = 0; i < 4096; ++i) many.insert(many.end(), one.begin(), one.end());
  uint64_t sent = 0;
  pollfd writable{client.fd(), POLLOUT, 0};
  while (sent < 256U * kMiB && ::poll(&writable, 1, 500) == 1) {
    const size_t at = sent % many.size();
    const ssize_t n = ::send(client.fd(), many.data() + at, many.size() - at, MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<uint64_t>(n);
  }
  EXPECT_LT(sent, 256U * kMiB) << "the server takes no more";
  EXPECT_LE(InFlight(*disk), Session::kInFlightRequestsMax);
  EXPECT_LE(plane.plane().buffer_bytes(),
            Session::kInFlightRequestsMax * 4096 + Session::kReceiveBufferBytes);
  EXPECT_EQ(plane.Connect(disk).Read(0, 4096).size(), 4096U) << "another client is served";
}

TEST(SlowReader, IsClosedWhenItHasSaidDisconnectAndReadsNothing) {
  TestPlane plane(1, kShortHoldNs);
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client slow = plane.Connect(disk);
  for (int i = 0; i < 8; ++i) slow.SendRequest(wire::kRead, 0, 0, kMiB);
  slow.SendRequest(wire::kDisconnect, 0, 0, 0);
  const auto closed = plane.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed.has_value());
  EXPECT_EQ(closed->cause, "the client disconnected and did not read its replies");
}

TEST(SlowReader, KeepsItsRepliesAfterDisconnectForAsLongAsItReadsSome) {
  TestPlane plane(1, kShortHoldNs);
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client slow = plane.Connect(disk);
  for (int i = 0; i < 8; ++i) slow.SendRequest(wire::kRead, 0, 0, kMiB);
  slow.SendRequest(wire::kDisconnect, 0, 0, 0);
  for (int i = 0; i < 8; ++i) {
    Pause(kShortHoldNs / 4);
    const std::optional<Reply> reply = slow.Receive();
    ASSERT_TRUE(reply.has_value()) << "reply " << i;
    EXPECT_EQ(reply->data.size(), kMiB);
  }
  EXPECT_TRUE(slow.AtEnd());
}

TEST(SlowWriter, HoldsNoLockAndMayTakeItsTime) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client slow = plane.Connect(disk);
  const Bytes payload = Pattern(64 * 1024, 1);
  slow.SendRaw(WriteHeader(7, 0, 64 * 1024));
  slow.SendRaw(std::span(payload).first(100));
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  EXPECT_LE(plane.plane().buffer_bytes(), 64 * 1024 + 2 * Session::kReceiveBufferBytes);
  Client other = plane.Connect(disk);
  other.Write(0, Pattern(64 * 1024, 2));
  EXPECT_EQ(other.Read(0, 64 * 1024), Pattern(64 * 1024, 2));
  Pause(4 * kShortHoldNs);
  slow.SendRaw(std::span(payload).subspan(100));
  EXPECT_EQ(slow.Receive()->cookie, 7U);
  EXPECT_EQ(other.Read(0, 64 * 1024), payload);
}

TEST(SlowWriter, IsClosedWhenOthersWaitForTheMemory) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf(8 * kMiB));
  Client slow = plane.Connect(disk);
  slow.SendRaw(WriteHeader(7, 0, 8 * kMiB));
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  Client other = plane.Connect(disk);
  other.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  // Sending a little now and then is no way to keep it.
  EXPECT_TRUE(Eventually([&] {
    slow.SendRaw(Bytes(10, 0));
    return other.Silent(0) == false;
  }));
  EXPECT_EQ(other.Receive()->data.size(), 4 * kMiB);
  EXPECT_TRUE(ClosedAsTooSlow(plane));
}

TEST(SlowWriter, IsNotBlamedForASuspension) {
  TestPlane plane;
  // Once it resumes, the payload must arrive within the hold, also on a machine that is busy.
  constexpr int64_t kHoldNs = 1'000'000'000;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf(8 * kMiB, kHoldNs));
  Client writer = plane.Connect(disk);
  writer.SendRaw(WriteHeader(7, 0, 8 * kMiB));
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  Client other = plane.Connect(disk);
  other.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  (void)Suspend(*disk);
  const Bytes payload = Pattern(8 * kMiB, 3);
  Pause(kHoldNs + kShortHoldNs);
  ASSERT_TRUE(Unlock(*disk).ok());
  writer.SendRaw(payload);
  EXPECT_EQ(writer.Receive()->error, 0U);
  EXPECT_EQ(other.Receive()->data.size(), 4 * kMiB);
}

TEST(IdleClient, IsNeverClosedWhileOthersWaitForTheStore) {
  std::atomic<bool> hold{false};
  TestPlane plane;
  DiskSetup setup = SetupOf(8 * kMiB);
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client idle = plane.Connect(disk);
  (void)idle.Read(0, 512);
  hold = true;
  Client busy = plane.Connect(disk);
  busy.SendRequest(wire::kRead, 0, 0, 8 * kMiB);
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  Client other = plane.Connect(disk);
  other.SendRequest(wire::kRead, 0, 0, 4 * kMiB);
  Pause(4 * kShortHoldNs);
  EXPECT_EQ(plane.plane().Connections().size(), 3U);
  hold = false;
  EXPECT_EQ(busy.Receive()->data.size(), 8 * kMiB);
  EXPECT_EQ(other.Receive()->data.size(), 4 * kMiB);
  EXPECT_EQ(idle.Read(0, 512).size(), 512U);
}

TEST(Cookies, MayBeUsedAgainWhileInFlight) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup = SetupOf();
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  Client client = plane.Connect(plane.AddDisk(setup));
  for (int i = 0; i < 3; ++i) {
    client.SendRaw(WriteHeader(7, 0, 512));
    client.SendRaw(Bytes(512));
  }
  hold = false;
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Receive()->cookie, 7U);
  EXPECT_TRUE(client.Silent(50));
}

TEST(Disconnect, EndsTheSessionWhateverFollowsIt) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client client = plane.Connect(disk);
  client.SendRequest(wire::kWrite, 0, 0, 512, Pattern(512, 1));
  Bytes end(wire::kRequestBytes);
  wire::Store16(wire::Store16(wire::Store32(end.data(), wire::kRequestMagic), 0),
                wire::kDisconnect);
  const Bytes header = WriteHeader(9, 0, 512);
  end.insert(end.end(), header.begin(), header.end());
  end.resize(end.size() + 512, 0xff);
  client.SendRaw(end);
  EXPECT_EQ(client.Receive()->error, 0U);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(plane.Connect(disk).Read(0, 512), Pattern(512, 1)) << "not what followed";
}

TEST(HalfClose, AfterDisconnectStillBringsEveryReply) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup = SetupOf();
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  Client client = plane.Connect(plane.AddDisk(setup));
  for (int i = 0; i < 20; ++i) client.SendRequest(wire::kRead, 0, 0, kMiB);
  client.SendRequest(wire::kDisconnect, 0, 0, 0);
  ASSERT_EQ(::shutdown(client.fd(), SHUT_WR), 0);
  hold = false;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.Receive()->data.size(), kMiB);
  EXPECT_TRUE(client.AtEnd());
}

TEST(HalfClose, InTheMiddleOfAPayloadAnswersWhatCameBeforeAndWritesNothing) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf());
  Client client = plane.Connect(disk);
  client.SendRequest(wire::kRead, 0, 0, 512);
  client.SendRaw(WriteHeader(7, 0, 4096));
  client.SendRaw(Bytes(4095, 0xff));
  ASSERT_EQ(::shutdown(client.fd(), SHUT_WR), 0);
  EXPECT_EQ(client.Receive()->data.size(), 512U);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(plane.Connect(disk).Read(0, 4096), Bytes(4096, 0));
}

}  // namespace
}  // namespace keyhold::test

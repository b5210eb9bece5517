// SPDX-License-Identifier: Apache-2.0
// What happens to requests when the key goes and comes back.
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <thread>

#include "core/store/file_store.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

using Kind = StoreOp::Kind;

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}
uint64_t Parked(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.parked; });
}

/// Holds operations of one kind while `on`.
struct Hold {
  std::atomic<bool> on{false};
  std::atomic<int> held{0};
  FaultStore::Hook Of(std::initializer_list<Kind> kinds) {
    return [this, kinds = std::vector<Kind>(kinds)](const StoreOp& op) {
      const bool mine = std::find(kinds.begin(), kinds.end(), op.kind) != kinds.end();
      if (mine && on) ++held;
      return FaultStore::Verdict{0, mine && on, false};
    };
  }
};

TEST(Suspended, RequestsWaitAndAreServedAfterTheResume) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, true);
  const Bytes bytes = Pattern(3000, 1);
  client.Write(50, bytes);
  Suspend(*disk);
  EXPECT_FALSE(disk->guard().present());
  client.SendRequest(wire::kRead, 0, 50, 3000);
  client.SendRequest(wire::kWrite, 0, 10'000, 3000, bytes);
  EXPECT_TRUE(client.Silent(150));
  ASSERT_TRUE(Unlock(*disk).ok());
  for (int i = 0; i < 2; ++i) {
    const std::optional<Reply> reply = client.Receive();
    EXPECT_EQ(reply->error, 0U);
    EXPECT_TRUE(reply->data.empty() || reply->data == bytes);
  }
  EXPECT_EQ(client.Read(10'000, 3000), bytes);
}

TEST(Suspended, ReadsThatWereInTheStoreAreDoneAgain) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kRead});
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(4096, 1);
  client.Write(0, bytes);
  hold.on = true;
  client.SendRequest(wire::kRead, 0, 0, 4096);
  client.SendRequest(wire::kWrite, 0, 8192, 100, Pattern(100, 2));
  EXPECT_TRUE(Eventually([&] { return hold.held >= 2; }));
  EXPECT_EQ(Suspend(*disk).parked_requests, 2U);
  EXPECT_EQ(Parked(*disk), 2U);
  hold.on = false;
  EXPECT_TRUE(client.Silent(100));
  ASSERT_TRUE(Unlock(*disk).ok());
  for (int i = 0; i < 2; ++i) {
    const std::optional<Reply> reply = client.Receive();
    EXPECT_EQ(reply->error, 0U);
    EXPECT_TRUE(reply->data.empty() || reply->data == bytes);
  }
  EXPECT_EQ(client.Read(8192, 100), Pattern(100, 2));
  EXPECT_EQ(Parked(*disk), 0U);
}

TEST(Suspended, CiphertextOnItsWayToTheStoreArrivesAndIsAnswered) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kWrite});
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  hold.on = true;
  client.SendRequest(wire::kWrite, 0, 0, 4096, Pattern(4096, 1));
  EXPECT_TRUE(Eventually([&] { return hold.held > 0; }));
  EXPECT_EQ(Suspend(*disk).parked_requests, 0U);
  hold.on = false;
  EXPECT_EQ(client.Receive()->error, 0U);
}

TEST(Suspended, APayloadThatIsHalfThereGoesOnAfterTheResume) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(600'000, 3);
  client.SendRequest(wire::kWrite, 0, 7, 600'000, std::span(bytes).first(300'000));
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  EXPECT_EQ(Suspend(*disk).parked_requests, 1U);
  std::thread rest([&] { client.SendRaw(std::span(bytes).subspan(300'000)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(Unlock(*disk).ok());
  rest.join();
  EXPECT_EQ(client.Receive()->error, 0U);
  EXPECT_TRUE(client.Read(7, 600'000) == bytes);
}

TEST(Suspended, AClientThatDoesNotReadIsClosedAfterTheGrace) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 16U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client slow = plane.Connect(disk, true);
  Client good = plane.Connect(disk, true);
  slow.SendRequest(wire::kRead, wire::kDontFragment, 0, 8U << 20);
  EXPECT_EQ(good.Read(0, 512).size(), 512U);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const int64_t begun_ns = BootTimeNs();
  Suspend(*disk);
  EXPECT_GT(BootTimeNs() - begun_ns, 200'000'000);
  const std::optional<ConnectionClosed> closed = plane.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed);
  EXPECT_EQ(plane.plane().Connections().size(), 1U);
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(good.Read(0, 512).size(), 512U);
}

TEST(Suspended, RepliesThatHadNotBegunToLeaveAreTakenBack) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, true);
  const Bytes bytes = Pattern(4096, 1);
  client.Write(0, bytes);
  client.SendRequest(wire::kRead, wire::kDontFragment, 0,
                     4U << 20);  // more than the socket takes: its reply begins
  for (int i = 0; i < 10; ++i) client.SendRequest(wire::kRead, 0, 0, 4096);
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 11; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::promise<SuspendReceipt> done;
  ASSERT_TRUE(disk->Suspend([&](SuspendReceipt receipt) { done.set_value(receipt); }).ok());
  EXPECT_EQ(client.Receive()->data.size(), 4U << 20) << "what had begun is finished";
  EXPECT_EQ(done.get_future().get().parked_requests, 10U);
  EXPECT_TRUE(client.Silent(100));
  ASSERT_TRUE(Unlock(*disk).ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(client.Receive()->data, bytes);
}

TEST(Suspended, ALockedDiskCannotBeSuspended) {
  TestPlane plane;
  DiskSetup setup;
  setup.unlocked = false;
  const Status status = plane.AddDisk(setup)->Suspend({});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kState);
}

TEST(Offline, EveryCommandIsAnsweredEshutdownAndTheConnectionStays) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  for (bool structured : {false, true}) {
    Client client = plane.Connect(disk, structured);
    client.Write(0, Pattern(512, 1));
    GoOffline(*disk);
    for (uint16_t type : {wire::kRead, wire::kWrite, wire::kFlush, wire::kTrim, wire::kCache,
                          wire::kWriteZeroes, wire::kBlockStatus}) {
      const uint32_t length = type == wire::kFlush ? 0 : 700'000;
      const Bytes payload = type == wire::kWrite ? Pattern(length, 1) : Bytes{};
      EXPECT_EQ(client.Do(type, 0, 0, length, payload).error, wire::kShutdown) << type;
    }
    ASSERT_TRUE(Unlock(*disk).ok());
    EXPECT_EQ(client.Read(0, 512), Pattern(512, 1)) << "the same connection is served again";
  }
}

TEST(Offline, WhatIsCiphertextFinishesAndTheRestIsRefused) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kRead, Kind::kWrite});
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  hold.on = true;
  const uint64_t write = client.SendRequest(wire::kWrite, 0, 0, 4096, Pattern(4096, 1));
  const uint64_t read = client.SendRequest(wire::kRead, 0, 65536, 4096);
  const uint64_t behind = client.SendRequest(wire::kWrite, 0, 1, 1, Pattern(1, 1));
  EXPECT_TRUE(Eventually([&] { return hold.held >= 2 && InFlight(*disk) == 3; }));
  std::promise<OfflineReceipt> done;
  ASSERT_TRUE(disk->GoOffline([&](OfflineReceipt r) { done.set_value(std::move(r)); }).ok());
  EXPECT_FALSE(disk->guard().present());
  const Status early = Unlock(*disk);
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().code, ErrorCode::kState) << "it still drains";
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  hold.on = false;
  const OfflineReceipt receipt = done.get_future().get();
  for (int i = 0; i < 3; ++i) {
    const std::optional<Reply> reply = client.Receive();
    EXPECT_EQ(reply->error, reply->cookie == write ? 0U : wire::kShutdown);
    EXPECT_TRUE(reply->cookie == write || reply->cookie == read || reply->cookie == behind);
  }
  EXPECT_EQ(receipt.refused_requests, 2U);
  EXPECT_EQ(receipt.connections, 1U);
  EXPECT_LE(receipt.requested_ns, receipt.key_wiped_ns);
  EXPECT_LE(receipt.key_wiped_ns, receipt.drained_ns);
  ASSERT_TRUE(receipt.flushed_ns);
  EXPECT_LE(receipt.drained_ns, *receipt.flushed_ns);
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(client.Read(0, 4096), Pattern(4096, 1));
}

TEST(Offline, ParkedRequestsAreRefused) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kRead});
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  hold.on = true;
  client.SendRequest(wire::kRead, 0, 0, 4096);
  client.SendRequest(wire::kWrite, 0, 8192, 100, Pattern(100, 2));
  EXPECT_TRUE(Eventually([&] { return hold.held >= 2; }));
  Suspend(*disk);
  hold.on = false;
  EXPECT_TRUE(client.Silent(100));
  EXPECT_EQ(GoOffline(*disk).refused_requests, 2U);
  EXPECT_EQ(client.Receive()->error, wire::kShutdown);
  EXPECT_EQ(client.Receive()->error, wire::kShutdown);
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(client.Read(8192, 100), Bytes(100, 0)) << "a refused write may not appear later";
}

TEST(Offline, APayloadThatIsHalfThereIsDrainedAndRefused) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(600'000, 3);
  client.SendRequest(wire::kWrite, 0, 7, 600'000, std::span(bytes).first(300'000));
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  GoOffline(*disk);
  EXPECT_TRUE(client.Silent(50));
  client.SendRaw(std::span(bytes).subspan(300'000));
  EXPECT_EQ(client.Receive()->error, wire::kShutdown);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, wire::kShutdown);
}

TEST(Offline, TheKeyIsGoneBeforeTheFirstEshutdown) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> clients;
    std::atomic<int> running{0};
    for (int i = 0; i < 2; ++i) {
      clients.emplace_back([&] {
        Client client = plane.Connect(disk);
        for (;;) {
          const Reply reply = client.Do(wire::kRead, 0, 0, 4096);
          ++running;
          if (reply.error == 0) continue;
          EXPECT_EQ(reply.error, wire::kShutdown);
          EXPECT_FALSE(disk->guard().present());
          return;
        }
      });
    }
    EXPECT_TRUE(Eventually([&] { return running > 20; }));
    GoOffline(*disk);
    for (std::thread& client : clients) client.join();
    ASSERT_TRUE(Unlock(*disk).ok());
  }
}

TEST(Offline, AStoreThatHangsIsGivenUpAndTheReceiptSaysSo) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kWrite});
  setup.drain_ns_max = 200'000'000;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  hold.on = true;
  client.SendRequest(wire::kWrite, 0, 0, 4096, Pattern(4096, 1));
  EXPECT_TRUE(Eventually([&] { return hold.held > 0; }));
  const OfflineReceipt receipt = GoOffline(*disk);
  EXPECT_FALSE(receipt.flushed_ns);
  EXPECT_EQ(receipt.flush_error, "the store did not finish 1 requests within 200 ms");
  hold.on = false;
  EXPECT_EQ(client.Receive()->error, 0U);
}

TEST(Offline, AFlushThatHangsIsGivenUpAndTheReceiptSaysSo) {
  Hold hold;
  TestPlane plane;
  DiskSetup setup;
  setup.hook = hold.Of({Kind::kFlush});
  setup.drain_ns_max = 200'000'000;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  hold.on = true;
  const OfflineReceipt receipt = GoOffline(*disk);
  EXPECT_EQ(receipt.flush_error, "the store did not finish its flush within 200 ms");
  hold.on = false;
}

TEST(Offline, AFailedFlushIsInTheReceipt) {
  TestPlane plane;
  DiskSetup setup;
  setup.hook = [](const StoreOp& op) {
    return FaultStore::Verdict{op.kind == Kind::kFlush ? EIO : 0, false, false};
  };
  const OfflineReceipt receipt = GoOffline(*plane.AddDisk(setup));
  EXPECT_EQ(receipt.flush_error, "flush the store: Input/output error");
  EXPECT_TRUE(plane.WaitFor<StoreFailed>());
}

TEST(Unlock, OfADiskThatServesIsRefused) {
  TestPlane plane;
  const Status status = Unlock(*plane.AddDisk());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kState);
}

TEST(Close, NeedsALockedDiskWithoutConnections) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  EXPECT_EQ(disk->Close({}).error().code, ErrorCode::kState);
  Client client = plane.Connect(disk);
  (void)client.Read(0, 512);
  GoOffline(*disk);
  EXPECT_EQ(disk->Close({}).error().code, ErrorCode::kState);
  std::promise<uint64_t> disconnected;
  ASSERT_TRUE(disk->DisconnectClients([&](uint64_t n) { disconnected.set_value(n); }).ok());
  EXPECT_EQ(disconnected.get_future().get(), 1U);
  EXPECT_TRUE(client.AtEnd());
  std::promise<void> closed;
  ASSERT_TRUE(disk->Close([&] { closed.set_value(); }).ok());
  closed.get_future().get();
  // The store is free again at that very moment.
  EXPECT_TRUE(FileStore::Open(plane.StorePath(*disk), false, 1).ok());
  EXPECT_EQ(disk->GoOffline({}).error().code, ErrorCode::kClosed);
  EXPECT_EQ(Unlock(*disk).error().code, ErrorCode::kClosed);
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// What happens to BLOCK_STATUS, CACHE, long effects and replies of several chunks when the key
// goes.
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <thread>

#include "core/shard/request.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

using Kind = StoreOp::Kind;
constexpr uint32_t kContext = 3;
constexpr wire::Agreed kExtended{wire::Replies::kExtended, kContext};
constexpr uint64_t kMiB = 1 << 20;

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}

/// Holds operations of one kind while `on`.
struct Hold {
  explicit Hold(Kind held_kind) : kind(held_kind) {}
  const Kind kind;
  std::atomic<bool> on{true};
  std::atomic<int> held{0};
  std::atomic<int> begun{0};
  void Into(DiskSetup& setup) {
    setup.watch = [this](const StoreOp& op) { begun += op.kind == kind ? 1 : 0; };
    setup.hook = [this](const StoreOp& op) {
      const bool mine = op.kind == kind && on;
      if (mine) ++held;
      return FaultStore::Verdict{0, mine, false};
    };
  }
};

struct Held {
  const char* name;
  Kind kind;
  uint16_t type;
  uint64_t length;
};
std::ostream& operator<<(std::ostream& out, const Held& held) { return out << held.name; }

/// Commands whose first store operation is held while the key goes.
class InTheStore : public ::testing::TestWithParam<Held> {};
INSTANTIATE_TEST_SUITE_P(Commands, InTheStore,
                         ::testing::Values(Held{"status", Kind::kExtents, wire::kBlockStatus, kMiB},
                                           Held{"cache", Kind::kCache, wire::kCache, kMiB},
                                           Held{"trim", Kind::kPunch, wire::kTrim, 3ULL << 30},
                                           Held{"zeroes", Kind::kPunch, wire::kWriteZeroes,
                                                3ULL << 30}));

TEST_P(InTheStore, WhenSuspendedParksAndGoesOnAfterTheResume) {
  Hold hold(GetParam().kind);
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 4ULL << 30;
  hold.Into(setup);
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, kExtended);
  client.SendRequest(GetParam().type, 0, 0, GetParam().length);
  EXPECT_TRUE(Eventually([&] { return hold.held > 0; }));
  Suspend(*disk);
  hold.on = false;
  EXPECT_TRUE(client.Silent(100)) << "more is to do, or its answer has to wait";
  EXPECT_EQ(hold.begun, 1);
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(client.Receive()->error, 0U);
  EXPECT_GT(hold.begun, 1) << "asked anew, or the next piece";
}

TEST_P(InTheStore, WhenOfflineIsRefusedAndNoFurtherPieceBegins) {
  Hold hold(GetParam().kind);
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 4ULL << 30;
  hold.Into(setup);
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, kExtended);
  client.SendRequest(GetParam().type, 0, 0, GetParam().length);
  EXPECT_TRUE(Eventually([&] { return hold.held > 0; }));
  std::promise<OfflineReceipt> done;
  ASSERT_TRUE(disk->GoOffline([&](OfflineReceipt receipt) { done.set_value(receipt); }).ok());
  EXPECT_TRUE(Eventually([&] { return disk->state() == DiskState::kLocked; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  hold.on = false;
  const Reply reply = *client.Receive();
  EXPECT_EQ(reply.error, wire::kShutdown);
  EXPECT_EQ(reply.chunk, wire::kChunkError);
  EXPECT_TRUE(reply.extents.empty());
  EXPECT_EQ(hold.begun, 1);
  EXPECT_EQ(done.get_future().get().refused_requests, 1U);
  EXPECT_EQ(InFlight(*disk), 0U);
}

TEST_P(InTheStore, WhenTheClientLeavesEndsAfterItsPiece) {
  Hold hold(GetParam().kind);
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 4ULL << 30;
  hold.Into(setup);
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, kExtended);
  client.SendRequest(GetParam().type, 0, 0, GetParam().length);
  EXPECT_TRUE(Eventually([&] { return hold.held > 0; }));
  // A bad request closes; a client that is merely gone would have its requests finished.
  client.SendRaw(Bytes(wire::kExtendedRequestBytes, 0));
  EXPECT_TRUE(client.AtEnd());
  hold.on = false;
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 0; }));
  EXPECT_EQ(hold.begun, 1);
}

TEST(SuspendedCommands, ThatArriveLaterWaitForTheKey) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
  Suspend(*disk);
  client.SendRequest(wire::kBlockStatus, 0, 0, kMiB);
  client.SendRequest(wire::kCache, 0, 0, kMiB);
  client.SendRequest(wire::kWriteZeroes, wire::kFastZero, 0, kMiB);
  EXPECT_TRUE(client.Silent(100));
  ASSERT_TRUE(Unlock(*disk).ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.Receive()->error, 0U);
}

TEST(SuspendedCommands, AStatusPayloadThatIsHalfThereGoesOnAfterTheResume) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  Bytes payload(12);
  wire::Store32(wire::Store64(payload.data(), kMiB), kContext);
  client.SendRequest(wire::kBlockStatus, wire::kPayloadLength, 0, 12, std::span(payload).first(5));
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  EXPECT_EQ(Suspend(*disk).parked_requests, 1U);
  client.SendRaw(std::span(payload).subspan(5));
  EXPECT_TRUE(client.Silent(50));
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(client.Receive()->extents.size(), 1U);
}

TEST(OfflineCommands, EveryCommandOfTheProtocolIsAnsweredEshutdown) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
  GoOffline(*disk);
  for (uint16_t type : {wire::kRead, wire::kFlush, wire::kTrim, wire::kCache, wire::kWriteZeroes,
                        wire::kBlockStatus}) {
    const Reply reply = client.Do(type, 0, 0, 512);
    EXPECT_EQ(reply.error, wire::kShutdown) << type;
    EXPECT_EQ(reply.text, "the disk is offline");
  }
  EXPECT_EQ(client.Do(wire::kWrite, 0, 0, 700, Bytes(700)).error, wire::kShutdown);
  EXPECT_EQ(client.StatusOf(0, 0, kMiB, {kContext}).error, wire::kShutdown);
  EXPECT_EQ(client.Do(wire::kTrim, wire::kPayloadLength, 0, 9, Bytes(9)).error, wire::kShutdown);
}

TEST(OfflineCommands, AStatusPayloadThatIsHalfThereIsDrainedAndRefused) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk, kExtended);
  const Bytes payload(12);
  client.SendRequest(wire::kBlockStatus, wire::kPayloadLength, 0, 12, std::span(payload).first(5));
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 1; }));
  GoOffline(*disk);
  EXPECT_TRUE(client.Silent(50));
  client.SendRaw(std::span(payload).subspan(5));
  EXPECT_EQ(client.Receive()->error, wire::kShutdown);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, wire::kShutdown);
}

/// A first reply that does not fit into the socket, and ten of several chunks behind it.
class SparseReplies : public ::testing::Test {
 protected:
  SparseReplies() {
    DiskSetup setup;
    setup.size_bytes = 8 * kMiB;
    disk_ = plane_.AddDisk(setup);
    client_.emplace(plane_.Connect(disk_, kExtended));
    model_ = Bytes(65536, 0);
    for (size_t at : {0U, 16384U, 49152U}) {
      const Bytes bytes = Pattern(8192, static_cast<uint32_t>(at));
      client_->Write(at, bytes);
      std::copy(bytes.begin(), bytes.end(), model_.begin() + static_cast<ptrdiff_t>(at));
    }
    client_->SendRequest(wire::kRead, wire::kDontFragment, 0, 4 * kMiB);
    for (int i = 0; i < 10; ++i) client_->SendRequest(wire::kRead, 0, 0, 65536);
    EXPECT_TRUE(Eventually([&] { return InFlight(*disk_) == 11; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }

  TestPlane plane_;
  std::shared_ptr<Disk> disk_;
  std::optional<Client> client_;
  Bytes model_;
};

TEST_F(SparseReplies, ThatHadNotBegunToLeaveAreTakenBackWhenSuspended) {
  std::promise<SuspendReceipt> done;
  ASSERT_TRUE(disk_->Suspend([&](SuspendReceipt receipt) { done.set_value(receipt); }).ok());
  EXPECT_EQ(client_->Receive()->data.size(), 4 * kMiB) << "what had begun is finished";
  EXPECT_EQ(done.get_future().get().parked_requests, 10U);
  EXPECT_TRUE(client_->Silent(100));
  ASSERT_TRUE(Unlock(*disk_).ok());
  for (int i = 0; i < 10; ++i) {
    const Reply reply = *client_->Receive();
    EXPECT_EQ(reply.chunks.size(), 6U);
    EXPECT_EQ(reply.data, model_);
  }
}

TEST_F(SparseReplies, ThatHadNotBegunToLeaveAreRefusedWhenOffline) {
  std::promise<OfflineReceipt> done;
  ASSERT_TRUE(disk_->GoOffline([&](OfflineReceipt receipt) { done.set_value(receipt); }).ok());
  EXPECT_EQ(client_->Receive()->data.size(), 4 * kMiB);
  for (int i = 0; i < 10; ++i) {
    const Reply reply = *client_->Receive();
    EXPECT_EQ(reply.error, wire::kShutdown);
    EXPECT_TRUE(reply.data.empty());
  }
  EXPECT_EQ(done.get_future().get().refused_requests, 10U);
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// Long READs, which a cipher thread may work on beside the shard.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <thread>

#include "core/shard/long_reads.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kLength = 128 * 1024;
constexpr uint32_t kCount = 4;
constexpr uint32_t kShort = LongReads::kLongBytesMin - 512;

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}

/// Looks at which thread reads, and can hold the reads of those that are not the shard's.
class Watcher {
 public:
  std::atomic<bool> meet{false};    // the shard's reads wait until another thread has begun one
  std::atomic<bool> hold{false};    // those of other threads do not end
  std::atomic<int> errno_value{0};  // and fail with this
  std::atomic<int> away{0};         // how many of them there were

  FaultStore::NowHook Hook() {
    return [this](const StoreOp& op) { return op.kind == StoreOp::Kind::kRead ? OnRead() : 0; };
  }

 private:
  int OnRead() {
    const std::thread::id here = std::this_thread::get_id();
    std::thread::id nobody;
    // A READ that is alone is the shard's own.
    if (shard_.compare_exchange_strong(nobody, here) || nobody == here) {
      if (meet) {
        EXPECT_TRUE(Eventually([this] { return away > 0; }));
      }
      return 0;
    }
    ++away;
    while (hold) std::this_thread::sleep_for(milliseconds(1));
    return errno_value;
  }
  std::atomic<std::thread::id> shard_{};
};

class LongRead : public ::testing::Test {
 protected:
  ~LongRead() override { watcher_.hold = false; }

  void Begin(uint32_t cipher_threads = 2, std::shared_ptr<Lease> lease = nullptr) {
    plane_.emplace(1, Session::kDrainStallNs, cipher_threads);
    DiskSetup setup;
    setup.in_memory = true;
    setup.now_hook = watcher_.Hook();
    setup.lease_enforced = lease != nullptr;
    disk_ = plane_->AddDisk(setup, std::move(lease));
    client_.emplace(plane_->Connect(disk_, true));
    for (uint32_t i = 0; i < kCount; ++i) client_->Write(uint64_t{i} * kLength, BytesOf(i));
    (void)client_->Read(0, 512);  // shows the watcher the shard's thread
  }

  static Bytes BytesOf(uint32_t index) { return Pattern(kLength, index + 1); }

  /// All at once: the shard finds every one of them when it looks.
  void SendReads(uint64_t begin = 0, uint32_t length = kLength) {
    plane_->plane().StallShardForTest(0, 50'000'000);
    for (uint32_t i = 0; i < kCount; ++i) {
      client_->SendRequest(wire::kRead, 0, begin + uint64_t{i} * kLength, length);
    }
  }
  /// The same, and one of them is with a cipher thread, which does not end it.
  void SendReadsAndHoldOne() {
    watcher_.meet = true;
    watcher_.hold = true;
    SendReads();
    ASSERT_TRUE(Eventually([this] { return watcher_.away > 0; }));
  }
  /// Of what was sent, in whatever order it comes: each byte, and nothing twice.
  void ExpectAll(uint32_t count = kCount) {
    std::vector<Bytes> got;
    for (uint32_t i = 0; i < count; ++i) {
      std::optional<Reply> reply = client_->Receive();
      ASSERT_TRUE(reply.has_value());
      ASSERT_EQ(reply->error, 0U);
      got.push_back(std::move(reply->data));
    }
    for (uint32_t i = 0; i < kCount && count == kCount; ++i) {
      EXPECT_EQ(std::count(got.begin(), got.end(), BytesOf(i)), 1);
    }
  }

  Watcher watcher_;
  std::optional<TestPlane> plane_;
  std::shared_ptr<Disk> disk_;
  std::optional<Client> client_;
};

TEST_F(LongRead, IsDoneByACipherThreadWhileTheShardDoesAnother) {
  Begin();
  watcher_.meet = true;
  SendReads();
  ExpectAll();
  EXPECT_GT(watcher_.away, 0);
}

TEST_F(LongRead, ThatIsAloneStaysWithItsShard) {
  Begin();
  for (uint32_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(client_->Read(uint64_t{i} * kLength, kLength), BytesOf(i));
  }
  EXPECT_EQ(watcher_.away, 0);
}

TEST_F(LongRead, ShorterOnesStayWithTheirShard) {
  Begin();
  SendReads(0, kShort);
  for (uint32_t i = 0; i < kCount; ++i) EXPECT_EQ(client_->Receive()->data.size(), kShort);
  EXPECT_EQ(watcher_.away, 0);
}

TEST_F(LongRead, WithoutCipherThreadsTheShardDoesAllOfThem) {
  Begin(0);
  SendReads();
  ExpectAll();
  EXPECT_EQ(watcher_.away, 0);
}

TEST_F(LongRead, OfAnyAlignmentHasItsBytes) {
  Begin();
  watcher_.meet = true;
  SendReads(77, kLength - 1000);
  std::vector<Bytes> got;
  for (uint32_t i = 0; i < kCount; ++i) got.push_back(client_->Receive()->data);
  for (uint32_t i = 0; i < kCount; ++i) {
    const Bytes all = BytesOf(i);
    EXPECT_EQ(std::count(got.begin(), got.end(), Bytes(all.begin() + 77, all.end() - 923)), 1);
  }
}

TEST_F(LongRead, TellsHolesThatACipherThreadFound) {
  Begin();
  watcher_.meet = true;
  client_->Do(wire::kTrim, 0, 0, kCount * kLength);
  SendReads();
  for (uint32_t i = 0; i < kCount; ++i) {
    const std::optional<Reply> reply = client_->Receive();
    EXPECT_EQ(reply->chunks, std::vector<uint16_t>{wire::kChunkOffsetHole});
    EXPECT_EQ(reply->data, Bytes(kLength, 0));
  }
}

TEST_F(LongRead, FailsWithTheStoresErrorThatACipherThreadMet) {
  Begin();
  watcher_.meet = true;
  watcher_.errno_value = EIO;
  SendReads();
  int failed = 0;
  for (uint32_t i = 0; i < kCount; ++i) failed += client_->Receive()->error == wire::kIo ? 1 : 0;
  EXPECT_EQ(failed, watcher_.away);
  EXPECT_TRUE(plane_->WaitFor<StoreFailed>());
}

TEST_F(LongRead, ThatTheStoreCannotDoAtOnceIsReadByTheShardsRing) {
  plane_.emplace();
  std::mutex mutex;
  std::vector<std::thread::id> starters;
  DiskSetup setup;
  setup.watch = [&](const StoreOp&) {
    const std::lock_guard lock(mutex);
    starters.push_back(std::this_thread::get_id());
  };
  disk_ = plane_->AddDisk(setup);
  client_.emplace(plane_->Connect(disk_));
  for (uint32_t i = 0; i < kCount; ++i) client_->Write(uint64_t{i} * kLength, BytesOf(i));
  SendReads();
  ExpectAll();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(starters.size(), 2 * kCount);
  EXPECT_EQ(std::count(starters.begin(), starters.end(), starters.front()), 2 * kCount);
}

TEST_F(LongRead, HoldsUpASuspensionUntilItIsBackAndThenParks) {
  Begin();
  SendReadsAndHoldOne();
  std::promise<SuspendReceipt> settled;
  std::future<SuspendReceipt> receipt = settled.get_future();
  ASSERT_TRUE(disk_->Suspend([&](SuspendReceipt given) { settled.set_value(given); }).ok());
  EXPECT_FALSE(disk_->guard().present());
  EXPECT_EQ(receipt.wait_for(milliseconds(100)), std::future_status::timeout);
  watcher_.hold = false;
  EXPECT_GE(receipt.get().parked_requests, 1U);
  watcher_.meet = false;
  ASSERT_TRUE(Unlock(*disk_).ok());
  ExpectAll();
}

TEST_F(LongRead, BeginsAnewWhenTheKeyCameBackBeforeIt) {
  Begin();
  SendReadsAndHoldOne();
  ASSERT_TRUE(disk_->Suspend([](SuspendReceipt) {}).ok());
  ASSERT_TRUE(Unlock(*disk_).ok());
  watcher_.hold = false;
  ExpectAll();
}

TEST_F(LongRead, IsRefusedWhenTheDiskWentOfflineMeanwhile) {
  Begin();
  SendReadsAndHoldOne();
  std::promise<OfflineReceipt> settled;
  std::future<OfflineReceipt> receipt = settled.get_future();
  ASSERT_TRUE(disk_->GoOffline([&](OfflineReceipt given) { settled.set_value(given); }).ok());
  EXPECT_EQ(receipt.wait_for(milliseconds(100)), std::future_status::timeout);
  watcher_.hold = false;
  EXPECT_GE(receipt.get().refused_requests, 1U);
  uint64_t refused = 0;
  for (uint32_t i = 0; i < kCount; ++i) {
    const std::optional<Reply> reply = client_->Receive();
    EXPECT_TRUE(reply->error == wire::kShutdown || reply->error == wire::kOk);
    refused += reply->error == wire::kShutdown ? 1 : 0;
  }
  EXPECT_GE(refused, 1U);
}

TEST_F(LongRead, FindsNoKeyWhenTheLeaseEndedMeanwhile) {
  const auto lease = std::make_shared<Lease>();
  lease->Renew(BootTimeNs(), 3'600'000'000'000);
  Begin(2, lease);
  SendReadsAndHoldOne();
  lease->End();
  watcher_.hold = false;
  EXPECT_TRUE(plane_->WaitFor<LeaseEnded>());
  EXPECT_EQ(disk_->state(), DiskState::kSuspended);
  watcher_.meet = false;
  lease->Renew(BootTimeNs(), 3'600'000'000'000);
  ASSERT_TRUE(Unlock(*disk_).ok());
  ExpectAll();
}

TEST_F(LongRead, OfAClientThatLeftIsDroppedWhenItIsBack) {
  Begin();
  SendReadsAndHoldOne();
  client_->Close();
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_GE(InFlight(*disk_), 1U);
  watcher_.hold = false;
  EXPECT_TRUE(Eventually([this] { return InFlight(*disk_) == 0; }));
  EXPECT_TRUE(plane_->WaitFor<ConnectionClosed>());
  Client next = plane_->Connect(disk_);
  next.Write(0, BytesOf(2));  // nobody holds the sectors
}

TEST_F(LongRead, IsWaitedForByAShardThatStops) {
  Begin();
  SendReadsAndHoldOne();
  std::future<void> stopped = std::async(std::launch::async, [this] { plane_->Stop(); });
  EXPECT_EQ(stopped.wait_for(milliseconds(100)), std::future_status::timeout);
  watcher_.hold = false;
  EXPECT_EQ(stopped.wait_for(milliseconds(5000)), std::future_status::ready);
}

TEST_F(LongRead, OfOneShardDoesNotWaitForThoseOfAnother) {
  plane_.emplace(2, Session::kDrainStallNs, 1);
  DiskSetup setup;
  setup.in_memory = true;
  disk_ = plane_->AddDisk(setup);
  Client one = plane_->Connect(disk_);
  Client two = plane_->Connect(disk_);
  for (uint32_t i = 0; i < kCount; ++i) one.Write(uint64_t{i} * kLength, BytesOf(i));
  for (int round = 0; round < 50; ++round) {
    for (Client* client : {&one, &two}) {
      for (uint32_t i = 0; i < kCount; ++i) {
        client->SendRequest(wire::kRead, 0, uint64_t{i} * kLength, kLength);
      }
    }
    for (Client* client : {&one, &two}) {
      for (uint32_t i = 0; i < kCount; ++i) {
        const std::optional<Reply> reply = client->Receive();
        ASSERT_TRUE(reply.has_value());
        ASSERT_EQ(reply->data.size(), kLength);
      }
    }
  }
}

}  // namespace
}  // namespace keyhold::test

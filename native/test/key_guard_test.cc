// SPDX-License-Identifier: Apache-2.0
#include "core/disk/key_guard.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <limits>
#include <thread>
#include <utility>
#include <vector>

namespace keyhold {
namespace {

/// Its key is plain memory without any synchronisation of its own: ThreadSanitizer reports a wipe
/// that overlaps a call, and `torn` counts calls that saw a wiped key.
class PlainCipher final : public xts::Cipher {
 public:
  explicit PlainCipher(std::atomic<int>* torn) : torn_(torn) {
    std::memset(key_, 0x5a, sizeof key_);
  }

  void EncryptRun(const uint8_t*, uint8_t*, size_t, uint64_t) const override {
    for (const uint8_t byte : key_) {
      if (byte != 0x5a) torn_->fetch_add(1, std::memory_order_relaxed);
    }
  }
  void DecryptRun(const uint8_t*, uint8_t*, size_t, uint64_t) const override {}
  void Wipe() override { std::memset(key_, 0, sizeof key_); }
  std::string_view kernel() const override { return "plain"; }

 private:
  uint8_t key_[64];
  std::atomic<int>* torn_;
};

std::atomic<int> torn_calls{0};

std::unique_ptr<xts::Cipher> NewCipher() { return std::make_unique<PlainCipher>(&torn_calls); }

TEST(KeyGuard, WithoutAKeyNobodyEnters) {
  KeyGuard guard(nullptr);
  EXPECT_FALSE(guard.present());
  EXPECT_FALSE(guard.Enter(0, BootTimeNs()));
}

TEST(KeyGuard, AnInstalledKeyCanBeEnteredOnEveryShardAtOnce) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  EXPECT_TRUE(guard.present());
  const auto first = guard.Enter(0, BootTimeNs());
  const auto last = guard.Enter(KeyGuard::kSlots - 1, BootTimeNs());
  EXPECT_TRUE(first);
  EXPECT_TRUE(last);
  EXPECT_EQ(first.cipher().kernel(), "plain");
}

TEST(KeyGuard, RefusesASecondKey) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  const Status second = guard.Install(NewCipher());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kState);
}

TEST(KeyGuard, RefusesNoKey) {
  KeyGuard guard(nullptr);
  const Status installed = guard.Install(nullptr);
  ASSERT_FALSE(installed.ok());
  EXPECT_EQ(installed.error().code, ErrorCode::kInvalidArgument);
}

TEST(KeyGuard, NobodyEntersAfterAWipe) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  guard.Wipe();
  EXPECT_FALSE(guard.present());
  EXPECT_FALSE(guard.Enter(3, BootTimeNs()));
}

TEST(KeyGuard, ASecondWipeReturnsTheTimeOfTheFirst) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  const int64_t before = BootTimeNs();
  const int64_t wiped = guard.Wipe();
  EXPECT_GE(wiped, before);
  EXPECT_LE(wiped, BootTimeNs());
  EXPECT_EQ(guard.Wipe(), wiped);
}

TEST(KeyGuard, TakesANewKeyAfterAWipeAndForgetsTheOldTime) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  const int64_t first = guard.Wipe();
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  EXPECT_TRUE(guard.Enter(0, BootTimeNs()));
  EXPECT_GT(guard.Wipe(), first);
}

TEST(KeyGuard, AnEndedLeaseKeepsEveryoneOutThoughTheKeyIsPresent) {
  const auto lease = std::make_shared<Lease>();
  KeyGuard guard(lease);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  EXPECT_FALSE(guard.Enter(0, 1000)) << "never renewed";
  lease->Renew(1000, 500);
  EXPECT_TRUE(guard.Enter(0, 1499));
  EXPECT_FALSE(guard.Enter(0, 1500)) << "the deadline itself is outside the lease";
  lease->End();
  EXPECT_FALSE(guard.Enter(0, 1000));
  EXPECT_TRUE(guard.present());
}

TEST(KeyGuard, AMovedEntryLeavesOnce) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  {
    auto entry = guard.Enter(0, 0);
    const auto moved = std::move(entry);
    EXPECT_FALSE(entry);  // NOLINT(bugprone-use-after-move): that is the claim
    EXPECT_TRUE(moved);
  }
  EXPECT_TRUE(guard.Enter(0, 0));
  guard.Wipe();
}

TEST(KeyGuard, AWipeWaitsForTheCallThatIsRunning) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  std::atomic<bool> entered{false};
  std::atomic<bool> left{false};
  std::thread user([&] {
    const auto entry = guard.Enter(5, 0);
    entered = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    entry.cipher().EncryptRun(nullptr, nullptr, 0, 0);
    left = true;
  });
  while (!entered) std::this_thread::yield();
  guard.Wipe();
  EXPECT_TRUE(left);
  user.join();
  EXPECT_EQ(torn_calls, 0);
}

TEST(KeyGuard, NoCallEverOverlapsAWipe) {
  constexpr int kUsers = 4;
  constexpr int kCycles = 400;
  KeyGuard guard(nullptr);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> calls{0};
  std::vector<std::thread> users;
  for (uint32_t shard = 0; shard < kUsers; ++shard) {
    users.emplace_back([&, shard] {
      while (!stop.load(std::memory_order_relaxed)) {
        const auto entry = guard.Enter(shard, 0);
        if (!entry) {
          std::this_thread::sleep_for(std::chrono::microseconds(1));  // the host has few cores
          continue;
        }
        entry.cipher().EncryptRun(nullptr, nullptr, 0, 0);
        calls.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    const uint64_t before = calls;
    ASSERT_TRUE(guard.Install(NewCipher()).ok());
    while (calls == before)
      std::this_thread::sleep_for(
          std::chrono::microseconds(1));  // so that every cycle has users inside
    guard.Wipe();
    ASSERT_FALSE(guard.present());
  }
  stop = true;
  for (std::thread& user : users) user.join();
  EXPECT_EQ(torn_calls, 0);
}

TEST(KeyGuard, ConcurrentWipesAgreeOnOneTimeAndNoneReturnsEarly) {
  KeyGuard guard(nullptr);
  for (int cycle = 0; cycle < 50; ++cycle) {
    ASSERT_TRUE(guard.Install(NewCipher()).ok());
    int64_t times[3] = {};
    std::vector<std::thread> wipers;
    for (int64_t& time : times) wipers.emplace_back([&] { time = guard.Wipe(); });
    for (std::thread& wiper : wipers) wiper.join();
    EXPECT_EQ(times[0], times[1]);
    EXPECT_EQ(times[1], times[2]);
  }
}

using KeyGuardDeathTest = ::testing::Test;

TEST(KeyGuardDeathTest, EnteringTwiceOnOneShardIsAProgrammersError) {
  KeyGuard guard(nullptr);
  ASSERT_TRUE(guard.Install(NewCipher()).ok());
  EXPECT_DEATH(
      {
        const auto first = guard.Enter(1, 0);
        const auto second = guard.Enter(1, 0);
      },
      "");
}

TEST(KeyGuardDeathTest, ASlotBeyondTheLimitIsAProgrammersError) {
  KeyGuard guard(nullptr);
  EXPECT_DEATH((void)guard.Enter(KeyGuard::kSlots, 0), "");
}

TEST(Lease, ThatWasNeverRenewedHasEnded) { EXPECT_FALSE(Lease().Holds(BootTimeNs())); }

TEST(Lease, HoldsUntilItsDeadlineAndNotAtIt) {
  Lease lease;
  lease.Renew(100, 50);
  EXPECT_EQ(lease.deadline_ns(), 150);
  EXPECT_TRUE(lease.Holds(149));
  EXPECT_FALSE(lease.Holds(150));
}

TEST(Lease, NeverMovesItsDeadlineBack) {
  Lease lease;
  lease.Renew(100, 50);
  lease.Renew(90, 50);
  EXPECT_EQ(lease.deadline_ns(), 150);
}

TEST(Lease, EndsAtOnce) {
  Lease lease;
  lease.Renew(BootTimeNs(), 1'000'000'000'000);
  lease.End();
  EXPECT_FALSE(lease.Holds(BootTimeNs()));
}

TEST(Lease, IgnoresAProofThatStartedBeforeItEnded) {
  Lease lease;
  const int64_t proof_start = BootTimeNs();
  lease.End();
  lease.Renew(proof_start, 1'000'000'000'000);
  EXPECT_FALSE(lease.Holds(BootTimeNs()));
}

TEST(Lease, RevivesWithAProofThatStartedAfterItEnded) {
  Lease lease;
  lease.End();
  const int64_t proof_start = BootTimeNs();
  lease.Renew(proof_start, 1'000'000'000'000);
  EXPECT_TRUE(lease.Holds(proof_start));
}

TEST(Lease, DoesNotOverflowIntoThePast) {
  Lease lease;
  lease.Renew(BootTimeNs(), std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(lease.Holds(BootTimeNs()));
}

}  // namespace
}  // namespace keyhold

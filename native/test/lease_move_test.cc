// SPDX-License-Identifier: Apache-2.0
// A disk goes from one lease to another while it serves.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr int64_t kHourNs = 3'600'000'000'000;

std::shared_ptr<Lease> HoldingLease() {
  auto lease = std::make_shared<Lease>();
  lease->Renew(BootTimeNs(), kHourNs);
  return lease;
}

class LeaseMove : public ::testing::Test {
 protected:
  std::shared_ptr<Lease> old_ = HoldingLease();
  std::shared_ptr<Lease> new_ = HoldingLease();
  TestPlane plane_{2};
  std::shared_ptr<Disk> disk_ = plane_.AddDisk(Enforced(), old_);

  static DiskSetup Enforced() {
    DiskSetup setup;
    setup.lease_enforced = true;
    return setup;
  }
  static void End(Lease& lease) {
    lease.End();
    Plane::EnforceAllLeases(BootTimeNs());
  }
  bool present() const { return disk_->guard().present(); }
};

TEST_F(LeaseMove, TheOldLeasesEndNoLongerMatters) {
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  End(*old_);
  EXPECT_TRUE(present());
  EXPECT_EQ(disk_->state(), DiskState::kServing);
}

TEST_F(LeaseMove, TheNewLeasesEndWipesAtOnce) {
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  End(*new_);
  EXPECT_FALSE(present());
  EXPECT_EQ(disk_->state(), DiskState::kSuspended);
}

TEST_F(LeaseMove, TheTimersFindTheNewLease) {
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  new_->End();  // nobody else looks
  EXPECT_TRUE(plane_.WaitFor<LeaseEnded>());
  EXPECT_FALSE(present());
}

TEST_F(LeaseMove, AClientIsServedAcrossTheMove) {
  Client client = plane_.Connect(disk_);
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  End(*old_);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 4096).error, 0U);
}

TEST_F(LeaseMove, AnEndedNewLeaseIsRefusedAndNothingHasChanged) {
  End(*new_);
  const Status moved = disk_->SetLease(new_, true);
  ASSERT_FALSE(moved.ok());
  EXPECT_EQ(moved.error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(disk_->enforced_lease(), old_.get());
  EXPECT_TRUE(present());
  End(*old_);
  EXPECT_FALSE(present()) << "still under the old lease";
}

TEST_F(LeaseMove, ARefusedMoveLeavesNoTraceInTheIndex) {
  End(*new_);
  ASSERT_FALSE(disk_->SetLease(new_, true).ok());
  End(*new_);
  EXPECT_TRUE(present());
}

TEST_F(LeaseMove, AnEndedOldLeaseIsNotEscapedFrom) {
  old_->End();
  const Status moved = disk_->SetLease(new_, true);
  // The timer may have been first: then the disk is suspended, without a key, and may move.
  EXPECT_TRUE(!moved.ok() || disk_->state() == DiskState::kSuspended);
  Plane::EnforceAllLeases(BootTimeNs());
  EXPECT_FALSE(present());
}

TEST_F(LeaseMove, ToALeaseThatIsNotEnforced) {
  ASSERT_TRUE(disk_->SetLease(new_, false).ok());
  EXPECT_EQ(disk_->enforced_lease(), nullptr);
  End(*old_);
  End(*new_);
  EXPECT_TRUE(present());
}

TEST_F(LeaseMove, AnEndedLeaseThatIsNotEnforcedIsTaken) {
  End(*new_);
  EXPECT_TRUE(disk_->SetLease(new_, false).ok());
}

TEST_F(LeaseMove, FromRestartModeToImmediateMode) {
  DiskSetup setup;
  setup.lease_enforced = false;
  const std::shared_ptr<Disk> other = plane_.AddDisk(setup, old_);
  ASSERT_TRUE(other->SetLease(new_, true).ok());
  End(*new_);
  EXPECT_FALSE(other->guard().present());
  EXPECT_TRUE(present()) << "the other disk of the old lease";
}

TEST_F(LeaseMove, ThereAndBack) {
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  ASSERT_TRUE(disk_->SetLease(old_, true).ok());
  End(*new_);
  EXPECT_TRUE(present());
  End(*old_);
  EXPECT_FALSE(present());
}

TEST_F(LeaseMove, TheOldLeaseLivesAsLongAsTheDisk) {
  const std::weak_ptr<Lease> watched = old_;
  old_.reset();
  ASSERT_TRUE(disk_->SetLease(new_, true).ok());
  EXPECT_FALSE(watched.expired());
}

TEST_F(LeaseMove, AClosedDiskIsRefused) {
  plane_.Stop();
  EXPECT_EQ(disk_->SetLease(new_, true).error().code, ErrorCode::kClosed);
}

/// Its worth is under ThreadSanitizer.
TEST_F(LeaseMove, ClientsAndTimersMeetManyMoves) {
  std::atomic<bool> stop{false};
  std::thread worker([&] {
    Client client = plane_.Connect(disk_);
    while (!stop) EXPECT_EQ(client.Do(wire::kRead, 0, 0, 4096).error, 0U);
  });
  std::thread looker([&] {
    while (!stop) Plane::EnforceAllLeases(BootTimeNs());
  });
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(disk_->SetLease(i % 2 == 0 ? new_ : old_, i % 3 != 0).ok());
    std::this_thread::yield();
  }
  stop = true;
  worker.join();
  looker.join();
  EXPECT_EQ(disk_->state(), DiskState::kServing);
}

/// Whichever comes first, no key outlives the End of the lease that the disk has then.
TEST_F(LeaseMove, AnEndThatRacesWithTheMoveIsNeverMissed) {
  for (int i = 0; i < 200; ++i) {
    const auto lease = HoldingLease();
    std::thread ender([&] { End(*lease); });
    const bool moved = disk_->SetLease(lease, true).ok();
    ender.join();
    EXPECT_EQ(present(), !moved);
    if (!moved) continue;
    ASSERT_TRUE(disk_->SetLease(new_, true).ok());  // suspended: it may
    ASSERT_TRUE(Unlock(*disk_).ok());
  }
}

}  // namespace
}  // namespace keyhold::test

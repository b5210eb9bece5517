// SPDX-License-Identifier: Apache-2.0
#include "core/disk/sector_locks.h"

#include <gtest/gtest.h>

namespace keyhold::test {
namespace {

struct Waiter final : LockWaiter {
  void OnLockGranted() override { ++granted; }
  int granted = 0;
};

bool Both(LockKind first, LockKind second) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  EXPECT_TRUE(locks.Acquire(a, 10, 5, first));
  const bool both = locks.Acquire(b, 14, 5, second);
  locks.Drop(b);
  locks.Drop(a);
  return both;
}

TEST(SectorLocks, ReadersShareAndWritersShareAndNothingElseDoes) {
  using enum LockKind;
  EXPECT_TRUE(Both(kRead, kRead));
  EXPECT_TRUE(Both(kWrite, kWrite));
  EXPECT_FALSE(Both(kRead, kWrite));
  EXPECT_FALSE(Both(kWrite, kRead));
  EXPECT_FALSE(Both(kExclusive, kExclusive));
  EXPECT_FALSE(Both(kRead, kExclusive));
  EXPECT_FALSE(Both(kExclusive, kWrite));
}

TEST(SectorLocks, RangesThatOnlyTouchDoNotConflict) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  EXPECT_TRUE(locks.Acquire(a, 0, 8, LockKind::kExclusive));
  EXPECT_TRUE(locks.Acquire(b, 8, 8, LockKind::kExclusive));
}

TEST(SectorLocks, ARequestIsGrantedWhenWhatStoodInItsWayIsReleased) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  EXPECT_TRUE(locks.Acquire(a, 0, 8, LockKind::kExclusive));
  EXPECT_FALSE(locks.Acquire(b, 7, 1, LockKind::kRead));
  EXPECT_EQ(b.granted, 0);
  locks.Release(a);
  EXPECT_EQ(b.granted, 1);
}

TEST(SectorLocks, ATryTakesWhatIsFree) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  EXPECT_TRUE(locks.TryAcquire(a, 0, 8, LockKind::kWrite));
  EXPECT_FALSE(locks.TryAcquire(b, 7, 1, LockKind::kRead));
  locks.Release(a);
  EXPECT_TRUE(locks.TryAcquire(b, 7, 1, LockKind::kRead));
}

TEST(SectorLocks, ATryThatFailedWaitsForNothing) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  EXPECT_TRUE(locks.Acquire(a, 0, 8, LockKind::kExclusive));
  EXPECT_FALSE(locks.TryAcquire(b, 0, 8, LockKind::kRead));
  locks.Release(a);
  EXPECT_EQ(b.granted, 0);
  EXPECT_TRUE(locks.TryAcquire(a, 0, 8, LockKind::kExclusive));
}

TEST(SectorLocks, ATryDoesNotOvertakeWhoeverWaits) {
  SectorLocks locks;
  Waiter reader;
  Waiter writer;
  Waiter late_reader;
  EXPECT_TRUE(locks.Acquire(reader, 0, 8, LockKind::kRead));
  EXPECT_FALSE(locks.Acquire(writer, 0, 8, LockKind::kWrite));
  EXPECT_FALSE(locks.TryAcquire(late_reader, 0, 8, LockKind::kRead));
}

TEST(SectorLocks, AStreamOfReadersDoesNotStarveAWriter) {
  SectorLocks locks;
  Waiter reader;
  Waiter writer;
  Waiter late_reader;
  EXPECT_TRUE(locks.Acquire(reader, 0, 8, LockKind::kRead));
  EXPECT_FALSE(locks.Acquire(writer, 0, 8, LockKind::kWrite));
  EXPECT_FALSE(locks.Acquire(late_reader, 0, 8, LockKind::kRead)) << "not past the writer";
  locks.Release(reader);
  EXPECT_EQ(writer.granted, 1);
  EXPECT_EQ(late_reader.granted, 0);
  locks.Release(writer);
  EXPECT_EQ(late_reader.granted, 1);
}

TEST(SectorLocks, AWaiterThatLeavesLetsOthersPass) {
  SectorLocks locks;
  Waiter reader;
  Waiter writer;
  Waiter late_reader;
  EXPECT_TRUE(locks.Acquire(reader, 0, 8, LockKind::kRead));
  EXPECT_FALSE(locks.Acquire(writer, 0, 8, LockKind::kWrite));
  EXPECT_FALSE(locks.Acquire(late_reader, 0, 8, LockKind::kRead));
  EXPECT_TRUE(locks.CancelWait(writer));
  EXPECT_EQ(late_reader.granted, 1);
  EXPECT_FALSE(locks.CancelWait(late_reader)) << "it holds, it does not wait";
  EXPECT_EQ(writer.granted, 0);
}

TEST(SectorLocks, DropWorksInEveryState) {
  SectorLocks locks;
  Waiter a;
  Waiter b;
  locks.Drop(a);
  EXPECT_TRUE(locks.Acquire(a, 0, 1, LockKind::kExclusive));
  EXPECT_FALSE(locks.Acquire(b, 0, 1, LockKind::kExclusive));
  locks.Drop(b);
  locks.Drop(a);
  EXPECT_TRUE(locks.Acquire(b, 0, 1, LockKind::kExclusive));
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
#include "core/disk/sector_locks.h"

#include <algorithm>
#include <cstdlib>

namespace keyhold {

bool SectorLocks::Conflict(const Range& a, const Range& b) {
  if (a.first > b.last || b.first > a.last) return false;
  return a.kind != b.kind || a.kind == LockKind::kExclusive;
}

bool SectorLocks::Grantable(const Range& wish, size_t waiters_before) const {
  for (const Range& held : held_) {
    if (Conflict(wish, held)) return false;
  }
  for (size_t i = 0; i < waiters_before; ++i) {
    if (Conflict(wish, waiting_[i])) return false;
  }
  return true;
}

bool SectorLocks::Acquire(LockWaiter& waiter, uint64_t first_sector, uint64_t sector_count,
                          LockKind kind) {
  const Range wish = Wish(waiter, first_sector, sector_count, kind);
  std::lock_guard lock(mutex_);
  if (Take(wish)) return true;
  waiter.state_ = LockWaiter::State::kWaiting;
  waiting_.push_back(wish);
  return false;
}

bool SectorLocks::TryAcquire(LockWaiter& waiter, uint64_t first_sector, uint64_t sector_count,
                             LockKind kind) {
  const Range wish = Wish(waiter, first_sector, sector_count, kind);
  std::lock_guard lock(mutex_);
  return Take(wish);
}

SectorLocks::Range SectorLocks::Wish(LockWaiter& waiter, uint64_t first_sector,
                                     uint64_t sector_count, LockKind kind) {
  if (sector_count == 0) std::abort();
  return {first_sector, first_sector + sector_count - 1, kind, &waiter};
}

bool SectorLocks::Take(const Range& wish) {
  if (wish.waiter->state_ != LockWaiter::State::kIdle) std::abort();
  if (!Grantable(wish, waiting_.size())) return false;
  wish.waiter->state_ = LockWaiter::State::kHeld;
  held_.push_back(wish);
  return true;
}

void SectorLocks::Release(LockWaiter& waiter) {
  std::lock_guard lock(mutex_);
  RemoveHeld(waiter);
  GrantWaiters();
}

bool SectorLocks::CancelWait(LockWaiter& waiter) {
  std::lock_guard lock(mutex_);
  if (waiter.state_ != LockWaiter::State::kWaiting) return false;
  RemoveWaiting(waiter);
  GrantWaiters();
  return true;
}

void SectorLocks::Drop(LockWaiter& waiter) {
  std::lock_guard lock(mutex_);
  if (waiter.state_ == LockWaiter::State::kIdle) return;
  if (waiter.state_ == LockWaiter::State::kHeld) {
    RemoveHeld(waiter);
  } else {
    RemoveWaiting(waiter);
  }
  GrantWaiters();
}

void SectorLocks::RemoveHeld(LockWaiter& waiter) {
  auto found = std::find_if(held_.begin(), held_.end(),
                            [&](const Range& range) { return range.waiter == &waiter; });
  if (found == held_.end()) std::abort();
  *found = held_.back();
  held_.pop_back();
  waiter.state_ = LockWaiter::State::kIdle;
}

void SectorLocks::RemoveWaiting(LockWaiter& waiter) {
  auto found = std::find_if(waiting_.begin(), waiting_.end(),
                            [&](const Range& range) { return range.waiter == &waiter; });
  if (found == waiting_.end()) std::abort();
  waiting_.erase(found);
  waiter.state_ = LockWaiter::State::kIdle;
}

void SectorLocks::GrantWaiters() {
  for (size_t i = 0; i < waiting_.size();) {
    if (!Grantable(waiting_[i], i)) {
      ++i;
      continue;
    }
    Range range = waiting_[i];
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    held_.push_back(range);
    range.waiter->state_ = LockWaiter::State::kHeld;
    range.waiter->OnLockGranted();
  }
}

}  // namespace keyhold

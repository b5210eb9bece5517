// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace keyhold {

enum class LockKind : uint8_t {
  kRead,       // reads whole sectors
  kWrite,      // overwrites whole sectors
  kExclusive,  // reads, changes and writes sectors; or punches them
};

/// One request's wish for a range of sectors, and its place in the queue. Belongs to the request;
/// may not be destroyed while it waits or holds.
class LockWaiter {
 public:
  /// The range is granted. Called on whatever thread released the lock that stood in the way, with
  /// the table's mutex held: it may only pass the news on to its own shard.
  virtual void OnLockGranted() = 0;

 protected:
  ~LockWaiter() = default;

 private:
  friend class SectorLocks;
  enum class State : uint8_t { kIdle, kWaiting, kHeld };
  State state_ = State::kIdle;  // guarded by the table's mutex
};

/// Locks over ranges of a disk's sectors, shared by all shards.
///
///              | kRead | kWrite | kExclusive        two ranges that overlap
///   kRead      |  yes  |   no   |    no             may both be held?
///   kWrite     |   no  |   yes  |    no
///   kExclusive |   no  |   no   |    no
///
/// Why: a read-modify-write of a partial sector beside a write of the whole sector would put the
/// old neighbours back and lose bytes that the writer was told are stored. And a read that is torn
/// while a sector turns from hole to data (or back) would decrypt zeros to garbage, which a plain
/// disk never returns. Two full writes may race: either order is right, and a sector goes to the
/// store in one piece.
///
/// First come, first served: a request also waits for earlier requests that wait, so nobody
/// starves. A request holds one range at a time, so nothing can deadlock.
class SectorLocks {
 public:
  /// True when the range is held at once; else OnLockGranted comes later.
  bool Acquire(LockWaiter& waiter, uint64_t first_sector, uint64_t sector_count, LockKind kind);
  /// True when the range is held; does not wait for it.
  bool TryAcquire(LockWaiter& waiter, uint64_t first_sector, uint64_t sector_count, LockKind kind);
  void Release(LockWaiter& waiter);
  /// Leaves the queue if `waiter` still waits. False when it does not: then the grant is on its way
  /// or has arrived.
  bool CancelWait(LockWaiter& waiter);
  /// Gives up whatever `waiter` has or waits for; afterwards OnLockGranted is never called for it.
  void Drop(LockWaiter& waiter);

 private:
  struct Range {
    uint64_t first;
    uint64_t last;
    LockKind kind;
    LockWaiter* waiter;
  };
  static Range Wish(LockWaiter& waiter, uint64_t first_sector, uint64_t sector_count,
                    LockKind kind);
  static bool Conflict(const Range& a, const Range& b);
  bool Grantable(const Range& wish, size_t waiters_before) const;
  bool Take(const Range& wish);
  void RemoveHeld(LockWaiter& waiter);
  void RemoveWaiting(LockWaiter& waiter);
  void GrantWaiters();

  std::mutex mutex_;  // guards every member below, and LockWaiter::state_
  std::vector<Range> held_;
  std::deque<Range> waiting_;
};

}  // namespace keyhold

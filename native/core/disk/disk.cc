// SPDX-License-Identifier: Apache-2.0
#include "core/disk/disk.h"

#include <utility>

namespace keyhold {
namespace {

constexpr int64_t kStoreErrorIntervalNs = 1'000'000'000;

Error ClosedError(const std::string& operation, const std::string& name) {
  return Error{ErrorCode::kClosed, 0, operation + " disk " + name + ": it is closed"};
}

}  // namespace

Disk::Disk(Options options, std::unique_ptr<Store> store, std::shared_ptr<const Lease> lease,
           OrderRouter& router)
    : options_(std::move(options)),
      router_(router),
      store_(std::move(store)),
      guard_(options_.lease_enforced ? std::move(lease) : nullptr),
      counters_(options_.shards) {}

uint64_t Disk::connections() const {
  uint64_t open = 0;
  for (const ShardCounters& counters : counters_) open += counters.connections.Get();
  return open;
}

/// `hold` keeps one share open until the caller has left control_mutex_, so that `finish` can never
/// run inside it.
void Disk::Broadcast(DiskOrder::Kind kind, int64_t requested_ns, DiskOrder::Finish finish,
                     std::vector<DiskOrder::Share>& hold) {
  auto order =
      std::make_shared<DiskOrder>(kind, shared_from_this(), requested_ns, std::move(finish));
  hold.emplace_back(order);
  router_.Broadcast(order);
}

Status Disk::Unlock(std::unique_ptr<xts::Cipher> cipher) {
  std::vector<DiskOrder::Share> hold;
  std::lock_guard lock(control_mutex_);
  const int64_t now_ns = BootTimeNs();
  if (closed_) return ClosedError("unlock", name());
  if (state() == DiskState::kServing) {
    return Error{ErrorCode::kState, 0, "unlock disk " + name() + ": it is serving already"};
  }
  if (offline_orders_.load(std::memory_order_acquire) > 0) {
    return Error{ErrorCode::kState, 0, "unlock disk " + name() + ": it is still going offline"};
  }
  if (const Lease* lease = enforced_lease(); lease != nullptr && !lease->Holds(now_ns)) {
    return Error{ErrorCode::kKeyWiped, 0, "unlock disk " + name() + ": its lease has ended"};
  }
  Status installed = guard_.Install(std::move(cipher));
  if (!installed) return installed;
  state_.store(DiskState::kServing, std::memory_order_release);
  Broadcast(
      DiskOrder::Kind::kResume, now_ns, [](DiskOrder&) {}, hold);
  return Ok();
}

Status Disk::Suspend(std::function<void(SuspendReceipt)> done) {
  std::vector<DiskOrder::Share> hold;
  std::lock_guard lock(control_mutex_);
  if (closed_) return ClosedError("suspend", name());
  if (state() == DiskState::kLocked) {
    return Error{ErrorCode::kState, 0, "suspend disk " + name() + ": it is locked"};
  }
  const int64_t now_ns = BootTimeNs();
  state_.store(DiskState::kSuspended, std::memory_order_release);
  const int64_t wiped_ns = guard_.Wipe();
  Broadcast(
      DiskOrder::Kind::kSuspend, now_ns,
      [wiped_ns, done = std::move(done)](DiskOrder& order) {
        if (done) done({wiped_ns, order.parked.load()});
      },
      hold);
  return Ok();
}

void Disk::SuspendIfLeaseEnded(int64_t now_ns) {
  if (state() != DiskState::kServing) return;
  std::vector<DiskOrder::Share> hold;
  int64_t wiped_ns = 0;
  {
    std::lock_guard lock(control_mutex_);
    // The first shard to come is the one that acts; a renewal or a move to another set may also
    // have overtaken it. Only here the lease is looked at: SetLease counts on that.
    const Lease* const lease = enforced_lease();
    if (closed_ || state() != DiskState::kServing || lease == nullptr || lease->Holds(now_ns)) {
      return;
    }
    state_.store(DiskState::kSuspended, std::memory_order_release);
    wiped_ns = guard_.Wipe();
    Broadcast(
        DiskOrder::Kind::kSuspend, now_ns, [](DiskOrder&) {}, hold);
  }
  router_.Emit(LeaseEnded{id(), wiped_ns});
}

/// Whoever ends `lease` and then looks at all that is enlisted under it either comes after Enlist,
/// and then waits for control_mutex_ and finds the new lease; or before, and then Holds says no.
Status Disk::SetLease(std::shared_ptr<const Lease> lease, bool enforced) {
  const std::lock_guard lock(control_mutex_);
  if (closed_) return ClosedError("set the lease of", name());
  const Lease* const before = enforced_lease();
  const Lease* const next = enforced ? lease.get() : nullptr;
  if (before == next) return Ok();
  if (next != nullptr) router_.Enlist(*next, shared_from_this());
  const int64_t now_ns = BootTimeNs();
  const bool lapsed = state() == DiskState::kServing && before != nullptr && !before->Holds(now_ns);
  if (lapsed || (next != nullptr && !next->Holds(now_ns))) {
    if (next != nullptr) router_.Delist(*next, id());
    return Error{ErrorCode::kKeyWiped, 0,
                 "set the lease of disk " + name() + ": the " + (lapsed ? "old" : "new") +
                     " lease has ended"};
  }
  guard_.SetLease(enforced ? std::move(lease) : nullptr);
  if (before != nullptr) router_.Delist(*before, id());
  return Ok();
}

Status Disk::GoOffline(std::function<void(OfflineReceipt)> done) {
  std::vector<DiskOrder::Share> hold;
  std::lock_guard lock(control_mutex_);
  if (closed_) return ClosedError("take offline", name());
  const int64_t now_ns = BootTimeNs();
  if (state() == DiskState::kServing) {
    state_.store(DiskState::kSuspended, std::memory_order_release);
  }
  const int64_t wiped_ns = guard_.Wipe();
  state_.store(DiskState::kLocked, std::memory_order_release);
  offline_orders_.fetch_add(1, std::memory_order_acq_rel);
  Broadcast(
      DiskOrder::Kind::kOffline, now_ns,
      [this, wiped_ns, done = std::move(done)](DiskOrder& order) {
        FinishOffline(order, wiped_ns, done);
      },
      hold);
  return Ok();
}

/// All shards are drained: flush the store on one of them, then hand over the receipt.
void Disk::FinishOffline(DiskOrder& order, int64_t key_wiped_ns,
                         const std::function<void(OfflineReceipt)>& done) {
  OfflineReceipt receipt{};
  receipt.requested_ns = order.requested_ns();
  receipt.key_wiped_ns = key_wiped_ns;
  receipt.drained_ns = BootTimeNs();
  receipt.refused_requests = order.refused.load();
  receipt.connections = order.connections.load();
  const uint64_t unfinished = order.unfinished.load();
  auto hand_over = [self = shared_from_this(), receipt,
                    done](std::optional<std::string> error) mutable {
    if (error) {
      receipt.flush_error = std::move(*error);
    } else {
      receipt.flushed_ns = BootTimeNs();
    }
    self->offline_orders_.fetch_sub(1, std::memory_order_acq_rel);
    if (done) done(std::move(receipt));
  };
  if (unfinished > 0) {
    hand_over("the store did not finish " + std::to_string(unfinished) + " requests within " +
              std::to_string(drain_ns_max() / 1'000'000) + " ms");
    return;
  }
  router_.Flush(std::make_unique<FlushJob>(
      shared_from_this(), order.requested_ns() + drain_ns_max(), std::move(hand_over)));
}

Status Disk::DisconnectClients(std::function<void(uint64_t)> done) {
  std::vector<DiskOrder::Share> hold;
  std::lock_guard lock(control_mutex_);
  if (closed_) return ClosedError("disconnect the clients of", name());
  Broadcast(
      DiskOrder::Kind::kDisconnect, BootTimeNs(),
      [done = std::move(done)](DiskOrder& order) {
        if (done) done(order.connections.load());
      },
      hold);
  return Ok();
}

Status Disk::Close(std::function<void()> done) {
  std::vector<DiskOrder::Share> hold;
  std::lock_guard lock(control_mutex_);
  if (closed_) return ClosedError("close", name());
  if (state() != DiskState::kLocked || offline_orders_.load(std::memory_order_acquire) > 0) {
    return Error{ErrorCode::kState, 0, "close disk " + name() + ": it is not offline"};
  }
  if (const uint64_t open = connections(); open > 0) {
    return Error{
        ErrorCode::kState, 0,
        "close disk " + name() + ": it has " + std::to_string(open) + " connections, 0 are needed"};
  }
  closed_ = true;
  Broadcast(
      DiskOrder::Kind::kClose, BootTimeNs(),
      [done = std::move(done)](DiskOrder& order) {
        // A hung request may still use the store; then its descriptor lives as long as the disk.
        if (order.unfinished.load() == 0) order.disk()->store().Close();
        if (done) done();
      },
      hold);
  return Ok();
}

void Disk::WipeForGood() {
  std::lock_guard lock(control_mutex_);
  closed_ = true;
  if (state() == DiskState::kServing) {
    state_.store(DiskState::kSuspended, std::memory_order_release);
  }
  guard_.Wipe();
  state_.store(DiskState::kLocked, std::memory_order_release);
}

void Disk::ReportStoreError(const char* operation, int errno_value) {
  const int64_t now_ns = BootTimeNs();
  int64_t last_ns = store_error_reported_ns_.load(std::memory_order_relaxed);
  if (last_ns != 0 && now_ns - last_ns < kStoreErrorIntervalNs) return;
  if (!store_error_reported_ns_.compare_exchange_strong(last_ns, now_ns)) return;
  router_.Emit(StoreFailed{id(), operation, errno_value});
}

}  // namespace keyhold

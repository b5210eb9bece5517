// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/disk/disk_counters.h"
#include "core/disk/disk_order.h"
#include "core/disk/event.h"
#include "core/disk/key_guard.h"
#include "core/disk/lease.h"
#include "core/disk/sector_locks.h"
#include "core/store/store.h"

namespace keyhold {

enum class DiskState : uint8_t { kLocked, kServing, kSuspended };

struct DiskGeometry {
  uint64_t size_bytes = 0;
  uint32_t sector_size_bytes = 512;  // 512 or 4096
  uint64_t data_offset_bytes = 0;    // where sector 0 lies in the store
  bool read_only = false;
  bool holes = true;  // the hole rule: all-zero ciphertext reads as zeros
};

struct SuspendReceipt {
  int64_t key_wiped_ns;
  uint64_t parked_requests;
};

struct OfflineReceipt {
  int64_t requested_ns;
  int64_t key_wiped_ns;
  int64_t drained_ns;
  std::optional<int64_t> flushed_ns;
  std::string flush_error;  // why flushed_ns is missing
  uint64_t refused_requests;
  uint64_t connections;
};

class Disk;

/// How a disk reaches the shards and the control plane; the plane implements it.
class OrderRouter {
 public:
  /// Gives every living shard a Share of `order`. Orders of one disk reach each shard in the order
  /// of these calls.
  virtual void Broadcast(const std::shared_ptr<DiskOrder>& order) = 0;
  /// Hands `job` to a living shard; drops it when there is none.
  virtual void Flush(std::unique_ptr<FlushJob> job) = 0;
  virtual void Emit(Event event) = 0;
  /// From now on, respectively no longer, the end of `lease` is looked for on behalf of the disk.
  virtual void Enlist(const Lease& lease, const std::shared_ptr<Disk>& disk) = 0;
  virtual void Delist(const Lease& lease, uint32_t disk_id) = 0;

 protected:
  ~OrderRouter() = default;
};

/// A disk in the data plane, shared by all shards. Everything but the control calls is lock-free.
///
///   kLocked ──Unlock──▶ kServing ◀──Unlock── kSuspended
///      ▲                   │  └─Suspend, lease ended─▲  │
///      └──── GoOffline ────┴──────── GoOffline ────────┘
///
/// Order of steps, which the promises of DESIGN.md section 3 rest on:
///  - Suspend: state becomes kSuspended, then the key is wiped, then shards are told. So a shard
///  that
///    fails to enter the guard always finds a state other than kServing, or a lease that has ended.
///  - GoOffline: state becomes kSuspended, the key is wiped, *then* state becomes kLocked. A shard
///    answers ESHUTDOWN only in kLocked: so the key is gone before the first ESHUTDOWN is sent.
///  - Unlock: the key is installed, then state becomes kServing, then shards are told to resume. A
///    request that a shard parked because it read the old state was parked before the shard sees
///    the order, so none is forgotten.
class Disk : public std::enable_shared_from_this<Disk> {
 public:
  /// After this time GoOffline stops waiting for a store that hangs; the receipt says so. By then
  /// no plaintext is left: what is still pending is ciphertext on its way to or from the store.
  static constexpr int64_t kDrainNsMax = 30'000'000'000;
  /// Bytes in flight of all sessions of a disk on one shard: bounds what a suspended disk parks.
  static constexpr uint64_t kInFlightBytesMax = 256ULL << 20;
  /// How long a client may take with one reply or one payload while another session waits for
  /// bytes in flight. The longest, 32 MiB, needs 9 Mbit/s then.
  static constexpr int64_t kHoldNsMax = 30'000'000'000;

  struct Options {
    uint32_t id;
    std::string name;
    DiskGeometry geometry;
    uint32_t shards;
    bool lease_enforced;
    int64_t drain_ns_max = kDrainNsMax;
    int64_t hold_ns_max = kHoldNsMax;
    uint64_t in_flight_bytes_max = kInFlightBytesMax;
  };
  Disk(Options options, std::unique_ptr<Store> store, std::shared_ptr<const Lease> lease,
       OrderRouter& router);

  uint32_t id() const { return options_.id; }
  const std::string& name() const { return options_.name; }
  int64_t drain_ns_max() const { return options_.drain_ns_max; }
  int64_t hold_ns_max() const { return options_.hold_ns_max; }
  uint64_t in_flight_bytes_max() const { return options_.in_flight_bytes_max; }
  const DiskGeometry& geometry() const { return options_.geometry; }
  DiskState state() const { return state_.load(std::memory_order_acquire); }

  KeyGuard& guard() { return guard_; }
  SectorLocks& locks() { return locks_; }
  Store& store() { return *store_; }
  ShardCounters& counters(uint32_t shard) { return counters_[shard]; }
  const std::vector<ShardCounters>& counters() const { return counters_; }
  /// Sessions of all shards. A session is counted before TransmissionStarted is emitted for it, and
  /// no longer when ConnectionClosed is.
  uint64_t connections() const;

  /// The lease without which the disk may hold no key; null when nothing enforces one.
  const Lease* enforced_lease() const { return guard_.lease(); }

  /// The lease from now on, for a disk that moves to another set. Shards never see a moment without
  /// one or the other. When it returns, the end of `lease` wipes the key as the old one's did, and
  /// the old one's end no longer matters. kKeyWiped, and nothing has changed: `lease` is enforced
  /// and has ended, or the old one has and the disk is not suspended yet. kClosed.
  Status SetLease(std::shared_ptr<const Lease> lease, bool enforced);

  /// Starts or resumes serving. kState when it serves already or still goes offline; kKeyWiped when
  /// the lease is enforced and has ended; kClosed. On error nothing has changed.
  Status Unlock(std::unique_ptr<xts::Cipher> cipher);

  /// Wipes the key at once; `done` runs when no shard holds plaintext but the payloads of parked
  /// writes. kState when the disk is locked, kClosed.
  Status Suspend(std::function<void(SuspendReceipt)> done);

  /// Wipes the key at once; `done` runs when all is drained and the store is flushed, or
  /// kDrainNsMax have passed. Works in every state but closed, so that a revocation never depends
  /// on where a disk is.
  Status GoOffline(std::function<void(OfflineReceipt)> done);

  /// `done` gets the number of connections that were closed.
  Status DisconnectClients(std::function<void(uint64_t)> done);

  /// Closes the store. kState unless the disk is locked, drained and without connections.
  Status Close(std::function<void()> done);

  /// The plane stops: wipes the key, tells nobody.
  void WipeForGood();

  /// Called by every shard's timer, and by whoever was refused a key while kServing: if the
  /// enforced lease has ended, suspends the disk as Suspend does and emits LeaseEnded.
  void SuspendIfLeaseEnded(int64_t now_ns);

  /// Emits StoreFailed, at most once a second.
  void ReportStoreError(const char* operation, int errno_value);

 private:
  void Broadcast(DiskOrder::Kind kind, int64_t requested_ns, DiskOrder::Finish finish,
                 std::vector<DiskOrder::Share>& hold);
  void FinishOffline(DiskOrder& order, int64_t key_wiped_ns,
                     const std::function<void(OfflineReceipt)>& done);

  const Options options_;
  OrderRouter& router_;
  const std::unique_ptr<Store> store_;
  std::atomic<DiskState> state_{DiskState::kLocked};
  KeyGuard guard_;
  SectorLocks locks_;
  std::vector<ShardCounters> counters_;
  std::atomic<int64_t> store_error_reported_ns_{0};
  std::atomic<uint32_t> offline_orders_{0};

  /// Serialises the control calls: state change, wipe and broadcast of one call come before those
  /// of the next. Taken before the plane's and a shard's mailbox mutex; never while inside the
  /// guard.
  std::mutex control_mutex_;
  bool closed_ = false;
};

}  // namespace keyhold

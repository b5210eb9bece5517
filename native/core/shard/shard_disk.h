// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/disk/disk.h"
#include "core/shard/buffer_pool.h"

namespace keyhold {

class Session;
class Shard;

/// One disk as one shard sees it: its sessions here, and the orders that are being carried out.
class ShardDisk {
 public:
  /// How long a reply whose sending had begun may take after the key is gone.
  static constexpr int64_t kSendGraceNs = 250'000'000;

  ShardDisk(Shard& shard, std::shared_ptr<Disk> disk);
  ShardDisk(const ShardDisk&) = delete;
  ShardDisk& operator=(const ShardDisk&) = delete;

  Disk& disk() { return *disk_; }
  BufferOwner& owner() { return owner_; }
  ShardCounters& counters();

  void AddSession(Session& session);
  void RemoveSession(Session& session);

  void CarryOut(DiskOrder::Share share);
  /// After each batch of completions, and each tick.
  void SettleOrders(int64_t now_ns);
  /// The shard ends: whoever waits for it goes on without.
  void DropOrders() { orders_.clear(); }
  /// For the shard's list of disks that it settles orders of: true when it has to be put there.
  bool List() { return !std::exchange(listed_, true); }
  /// Whether it is to stay there: an order is left, or sessions that the close gave up on are.
  bool StaysListed() { return listed_ = closed_ || !orders_.empty(); }
  /// A close order came and no session is left.
  bool forgotten() const { return closed_ && orders_.empty() && sessions_.empty(); }

  /// In-flight bytes; a session that finds no room is woken when some are given back.
  bool Reserve(uint64_t bytes, Session& session);
  void GiveBack(uint64_t bytes);
  /// Some session but this one waits for bytes to be given back.
  bool OthersStarve(const Session& session) const;
  void CountRefused();
  void CountConnection(bool closed);

 private:
  struct Running {
    DiskOrder::Share share;
    int64_t begun_ns;
  };
  void Suspend(DiskOrder::Share share);
  void Resume();
  void GoOffline(DiskOrder::Share share);
  void CloseSessions(DiskOrder& order, const char* cause);
  bool Settled(Running& running, int64_t now_ns);
  bool Quiet(bool offline) const;
  void EndStalledReplies();

  Shard& shard_;
  const std::shared_ptr<Disk> disk_;
  BufferOwner owner_;
  std::vector<Session*> sessions_;
  std::vector<Session*> starved_;
  std::vector<Running> orders_;
  uint64_t in_flight_bytes_ = 0;
  bool closed_ = false;
  bool listed_ = false;
};

}  // namespace keyhold

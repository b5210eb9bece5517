// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/base/result.h"
#include "core/disk/event.h"
#include "core/io/ring.h"
#include "core/shard/buffer_pool.h"
#include "core/shard/busy_poll.h"
#include "core/shard/connection.h"
#include "core/shard/long_reads.h"
#include "core/shard/mailbox.h"
#include "core/shard/negotiation.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

class Acceptor;
class Plane;

/// One run of a shard's loop: one thread, one ring for sockets and files alike. Each turn:
///
///   submit and wait ─▶ dispatch completions ─▶ mail (if any) ─▶ work of touched connections ─▶
///   orders ─▶ some of the long READs
///
/// Operations and replies that a turn produces go to the kernel together at the start of the next
/// one. When the loop ends, for whatever reason: sockets are shut down, ring operations cancelled
/// and reaped (the kernel may write into buffers until then), cipher threads waited for, locks and
/// shares of orders given up, memory freed. If a store hangs so that operations cannot be reaped in
/// time, their memory is leaked on purpose, and their sector locks stay held.
class Shard {
 public:
  /// Lease checks, linger, stall deadlines, and the proof that the loop turns (Plane::ShardTicks).
  static constexpr int64_t kTickNs = 50'000'000;
  static constexpr int64_t kReapNsMax = 5'000'000'000;

  /// Runs until StopShard; an error means that the shard died.
  static Status Run(Plane& plane, uint32_t index, Mailbox& mailbox);

  ~Shard();
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  uint32_t index() const { return index_; }
  Ring& ring() { return *ring_; }
  BufferPool& pool() { return pool_; }
  const Plane& plane() const { return plane_; }
  Mailbox& mailbox() { return mailbox_; }
  LongReads& long_reads() { return long_reads_; }

  void Emit(Event event);
  /// Has `connection` looked at before the turn ends; destroys it then if it is finished.
  void MarkWork(Connection& connection);
  /// The same after all others had their turn and what has completed meanwhile was looked at.
  void MarkWorkNextTurn(Connection& connection);
  /// Turns a negotiation into a session.
  void StartSession(Negotiation& negotiation, NextStep next);
  /// The connection closes: takes it off the plane's list and tells the control plane.
  void Forget(const ConnectionRecord& record, uint32_t disk_id, std::string cause);
  void NoteTls(ConnectionRecord& record, TlsFacts facts);
  void Adopt(UniqueFd socket, std::shared_ptr<ConnectionRecord> record);

 private:
  class FlushTask;

  Shard(Plane& plane, uint32_t index, Mailbox& mailbox, std::unique_ptr<Ring> ring);
  Status Loop();
  Status WaitForNews();
  void TearDown();

  void OnMail(int32_t result);
  void OnTimer(int32_t result);
  void ReadMail();
  void Handle(AdoptConnection message);
  void Handle(AnswerNegotiation message);
  void Handle(CloseConnection message);
  void Handle(StartAccepting message);
  void Handle(StopAccepting message);
  void Handle(CarryOutOrder message);
  void Handle(FlushStore message);
  void Handle(StopShard message);
  void Handle(FailShard message);
  void Handle(StallShard message);

  ShardDisk& DiskHere(const std::shared_ptr<Disk>& disk);
  void DoWork();
  void DoOrders();
  void Reap(Connection& connection);

  Plane& plane_;
  const uint32_t index_;
  Mailbox& mailbox_;
  BusyPoll busy_poll_;
  bool stop_ = false;
  std::vector<ShardDisk*> ordered_;  // disks with orders to settle, each once
  std::string failure_;

  // Destroyed from the last to the first: connections before the disks and the pool that they use,
  // and all of them before the ring.
  std::unique_ptr<Ring> ring_;
  BufferPool pool_;
  LongReads long_reads_;
  std::unordered_map<uint32_t, std::unique_ptr<ShardDisk>> disks_;
  std::unordered_map<uint32_t, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> replaced_;  // negotiations that became sessions
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::unique_ptr<FlushTask>> flushes_;
  std::vector<Connection*> work_;
  std::vector<Connection*> next_work_;  // of the next turn, which then begins without waiting

  std::vector<Message> messages_;
  std::vector<Request*> news_;
  uint64_t mail_count_ = 0;
  __kernel_timespec tick_{0, kTickNs};
  MemberOp<Shard> mail_op_;
  MemberOp<Shard> timer_op_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/disk/key_guard.h"

namespace keyhold {

/// A part of a request that neither waits nor touches its shard.
class CipherJob {
 public:
  /// On a cipher thread, which enters key guards under `guard_slot`.
  virtual void RunAway(uint32_t guard_slot) = 0;
  /// On the same thread, whose registers are clear by now: tells the shard, whose the job is again.
  virtual void GiveBack() = 0;

 protected:
  ~CipherJob() = default;
};

/// Threads beside the shards that fill and decrypt long READs which a busy shard has not come to
/// yet. Shards offer what they can spare, each in a queue of its own; a thread that has nothing
/// to do takes the job that has waited longest in the next queue.
///
///   offered ──a thread takes it──▶ running ──RunAway, GiveBack──▶ the shard's
///      └────────Withdraw, by the shard─────────────────────────────▲
///
/// Every method may be called from any thread.
class CipherThreads {
 public:
  static constexpr uint32_t kThreadsMax = KeyGuard::kCipherThreadsMax;

  CipherThreads(uint32_t shards, uint32_t threads);
  /// No job may be offered or running.
  ~CipherThreads();
  CipherThreads(const CipherThreads&) = delete;
  CipherThreads& operator=(const CipherThreads&) = delete;

  uint32_t count() const { return static_cast<uint32_t>(threads_.size()); }

  /// `job` must live until it is withdrawn or has been given back.
  void Offer(uint32_t shard, CipherJob& job);
  /// True when no thread has begun with `job`, nor will.
  bool Withdraw(uint32_t shard, CipherJob& job);
  /// The job of `shard` that has waited longest, withdrawn; null when there is none.
  CipherJob* WithdrawFirst(uint32_t shard);
  /// Waits until no job of `shard`, which offers none any more, is running.
  void Drain(uint32_t shard);

 private:
  struct Queue {
    std::deque<CipherJob*> offered;
    uint32_t running = 0;
  };
  void Serve(uint32_t guard_slot);
  Queue& NextQueue();

  std::mutex mutex_;  // guards every member below but the threads; a leaf
  std::condition_variable offered_;
  std::condition_variable given_back_;
  std::vector<Queue> queues_;
  size_t next_queue_ = 0;  // where the search begins, so that every shard has its turn
  size_t offered_count_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace keyhold

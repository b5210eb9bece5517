// SPDX-License-Identifier: Apache-2.0
#include "core/shard/cipher_threads.h"

#include <algorithm>

#include "core/shard/vector_registers.h"

namespace keyhold {

CipherThreads::CipherThreads(uint32_t shards, uint32_t threads) : queues_(shards) {
  for (uint32_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] { Serve(KeyGuard::kShardsMax + i); });
  }
}

CipherThreads::~CipherThreads() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  offered_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void CipherThreads::Offer(uint32_t shard, CipherJob& job) {
  {
    std::lock_guard lock(mutex_);
    queues_[shard].offered.push_back(&job);
    ++offered_count_;
  }
  offered_.notify_one();
}

bool CipherThreads::Withdraw(uint32_t shard, CipherJob& job) {
  std::lock_guard lock(mutex_);
  const size_t removed = std::erase(queues_[shard].offered, &job);
  offered_count_ -= removed;
  return removed == 1;
}

CipherJob* CipherThreads::WithdrawFirst(uint32_t shard) {
  std::lock_guard lock(mutex_);
  std::deque<CipherJob*>& offered = queues_[shard].offered;
  if (offered.empty()) return nullptr;
  CipherJob* job = offered.front();
  offered.pop_front();
  --offered_count_;
  return job;
}

void CipherThreads::Drain(uint32_t shard) {
  std::unique_lock lock(mutex_);
  given_back_.wait(lock, [&] { return queues_[shard].running == 0; });
}

/// Some queue is not empty.
CipherThreads::Queue& CipherThreads::NextQueue() {
  for (;;) {
    Queue& queue = queues_[next_queue_];
    next_queue_ = (next_queue_ + 1) % queues_.size();
    if (!queue.offered.empty()) return queue;
  }
}

void CipherThreads::Serve(uint32_t guard_slot) {
  const NoSignalFrames no_signal_frames;
  std::unique_lock lock(mutex_);
  for (;;) {
    offered_.wait(lock, [this] { return stop_ || offered_count_ > 0; });
    if (stop_) return;
    Queue& queue = NextQueue();
    CipherJob* const job = queue.offered.front();
    queue.offered.pop_front();
    --offered_count_;
    ++queue.running;
    lock.unlock();
    job->RunAway(guard_slot);
    ClearVectorRegisters();
    job->GiveBack();
    lock.lock();
    if (--queue.running == 0) given_back_.notify_all();
  }
}

}  // namespace keyhold

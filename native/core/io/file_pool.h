// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/result.h"
#include "core/io/ring_call.h"
#include "core/io/unique_fd.h"

namespace keyhold {

/// Threads that carry out the file calls of one EpollRing. Its queue needs no bound of its own:
/// each call lies in an operation, of which a session may have so many in flight.
///
///   Submit ─▶ queued ─▶ running ─▶ done ─▶ TakeDone
///               └─ Withdraw ─▶ the caller's again
///
/// A thread touches a call and its bytes from running to done, and this object; so while a call
/// hangs in the kernel neither may be freed. All methods are for the ring's thread.
class FilePool {
 public:
  /// As many calls as a device's queue is worth to one shard; nbdkit runs as many. They start one
  /// by one, when calls wait and no thread is idle.
  static constexpr size_t kThreadsMax = 16;
  static constexpr size_t kStackBytes = 256 * 1024;  // sanitizers need the most of it

  static Result<std::unique_ptr<FilePool>> Create();
  /// Every call must have come back.
  ~FilePool();
  FilePool(const FilePool&) = delete;
  FilePool& operator=(const FilePool&) = delete;

  /// An eventfd that is not zero when something is done. The reader makes it zero, then takes.
  int event_fd() const { return event_fd_.get(); }

  /// Does a read or write at once if that cannot block: the bytes are in the page cache, and the
  /// file system can tell. False when a thread has to do it.
  static bool TryAtOnce(RingCall& call);
  void Submit(RingCall& call);
  /// True when `call` had not begun: it will not.
  bool Withdraw(RingCall& call);
  RingCallList TakeDone();

 private:
  FilePool() = default;
  Status StartThread();
  static void* RunThread(void* pool);
  void Work();

  UniqueFd event_fd_;
  std::vector<pthread_t> threads_;

  std::mutex mutex_;  // guards every member below, and RingCall::queued
  std::condition_variable wanted_;
  RingCallList queued_;
  RingCallList done_;
  size_t queued_count_ = 0;
  size_t idle_threads_ = 0;
  bool stop_ = false;
};

}  // namespace keyhold

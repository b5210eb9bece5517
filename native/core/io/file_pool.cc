// SPDX-License-Identifier: Apache-2.0
#include "core/io/file_pool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace keyhold {
namespace {

int32_t ResultOf(ssize_t returned) {
  return static_cast<int32_t>(returned < 0 ? -errno : returned);
}

int32_t Perform(const RingCall& call) {
  const off_t offset = static_cast<off_t>(call.offset_bytes);
  const off_t length = static_cast<off_t>(call.length_bytes);
  switch (call.kind) {
    case RingCall::Kind::kRead:
      return ResultOf(::pread(call.fd, call.memory, call.length_bytes, offset));
    case RingCall::Kind::kWrite:
      return ResultOf(::pwrite(call.fd, call.memory, call.length_bytes, offset));
    case RingCall::Kind::kDataSync:
      return ResultOf(::fdatasync(call.fd));
    case RingCall::Kind::kAllocate:
      return ResultOf(::fallocate(call.fd, call.mode, offset, length));
    case RingCall::Kind::kAdvise:
      return -::posix_fadvise(call.fd, offset, length, call.mode);
    default:
      std::abort();  // no file call
  }
}

}  // namespace

Result<std::unique_ptr<FilePool>> FilePool::Create() {
  std::unique_ptr<FilePool> pool(new FilePool());
  pool->event_fd_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!pool->event_fd_) {
    const int errno_value = errno;
    return Error{ErrorCode::kSystem, errno_value,
                 std::string("make an eventfd: ") + std::strerror(errno_value)};
  }
  // One thread is enough to get all done, so that later ones may fail to start.
  Status started = pool->StartThread();
  if (!started) return started.error();
  return pool;
}

FilePool::~FilePool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    wanted_.notify_all();
  }
  for (pthread_t thread : threads_) ::pthread_join(thread, nullptr);
}

bool FilePool::TryAtOnce(RingCall& call) {
  const iovec bytes{call.memory, call.length_bytes};
  const off_t offset = static_cast<off_t>(call.offset_bytes);
  const ssize_t done = call.kind == RingCall::Kind::kRead
                           ? ::preadv2(call.fd, &bytes, 1, offset, RWF_NOWAIT)
                           : ::pwritev2(call.fd, &bytes, 1, offset, RWF_NOWAIT);
  // Whatever the error: "not now" and "not with this flag" have many names. The thread will tell.
  if (done < 0) return false;
  call.result = static_cast<int32_t>(done);
  return true;
}

void FilePool::Submit(RingCall& call) {
  bool needs_thread = false;
  {
    std::lock_guard lock(mutex_);
    call.queued = true;
    queued_.Add(call);
    ++queued_count_;
    needs_thread = queued_count_ > idle_threads_;
    wanted_.notify_one();
  }
  if (needs_thread && threads_.size() < kThreadsMax) (void)StartThread();
}

bool FilePool::Withdraw(RingCall& call) {
  std::lock_guard lock(mutex_);
  if (!call.queued) return false;
  call.queued = false;
  queued_.Remove(call);
  --queued_count_;
  return true;
}

RingCallList FilePool::TakeDone() {
  std::lock_guard lock(mutex_);
  return std::exchange(done_, {});
}

/// No signal handler runs on the thread: it would have a shard's handlers run beside the shard.
Status FilePool::StartThread() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kStackBytes);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failed = ::pthread_create(&thread, &attributes, &FilePool::RunThread, this);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_attr_destroy(&attributes);
  if (failed != 0) {
    return Error{ErrorCode::kSystem, failed,
                 std::string("start a thread for files: ") + std::strerror(failed)};
  }
  threads_.push_back(thread);
  return Ok();
}

void* FilePool::RunThread(void* pool) {
  static_cast<FilePool*>(pool)->Work();
  return nullptr;
}

void FilePool::Work() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_threads_;
    wanted_.wait(lock, [this] { return stop_ || !queued_.empty(); });
    --idle_threads_;
    RingCall* call = queued_.Take();
    if (call == nullptr) return;
    --queued_count_;
    call->queued = false;
    lock.unlock();
    const int32_t result = Perform(*call);
    lock.lock();
    call->result = result;
    const bool first = done_.empty();
    done_.Add(*call);
    const uint64_t one = 1;
    // Cannot fail: the counter is far from its limit, and open until the threads have ended.
    if (first && ::write(event_fd_.get(), &one, sizeof one) != sizeof one) std::abort();
  }
}

}  // namespace keyhold

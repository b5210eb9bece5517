// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"

namespace keyhold {

class Ring;

/// One operation at a time on a Ring, embedded in the object that owns the memory it works on. The
/// kernel may touch that memory until `pending()` is false again, so destroying a pending operation
/// is a programmer's error and aborts.
class RingOp {
 public:
  RingOp() = default;
  RingOp(const RingOp&) = delete;
  RingOp& operator=(const RingOp&) = delete;

  bool pending() const { return pending_; }

 protected:
  ~RingOp();
  /// `result` is what the system call would have returned, or -errno. Called from Ring::Dispatch
  /// alone.
  virtual void OnRingDone(int32_t result) = 0;
  /// The same from Ring::CancelAll, when the loop has ended: may only dispose of what `result`
  /// gives.
  virtual void OnRingReaped(int32_t result) { (void)result; }

 private:
  friend class Ring;
  RingOp* previous_ = nullptr;
  RingOp* next_ = nullptr;
  bool pending_ = false;
};

/// A RingOp that calls a method of its owner.
template <typename Owner>
class MemberOp final : public RingOp {
 public:
  using Method = void (Owner::*)(int32_t);
  MemberOp(Owner* owner, Method method) : owner_(owner), method_(method) {}
  ~MemberOp() = default;

 private:
  void OnRingDone(int32_t result) override { (owner_->*method_)(result); }
  Owner* owner_;
  Method method_;
};

/// One io_uring, used by the thread that created it and no other. Submissions are collected and go
/// to the kernel in SubmitAndWait, completions come out in Dispatch: so one system call carries a
/// batch each way.
class Ring {
 public:
  static constexpr unsigned kSubmissionEntries =
      1024;  // a full queue is submitted early, not refused
  static constexpr unsigned kCompletionEntries =
      8192;  // beyond it the kernel keeps an overflow list

  /// SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN where the kernel has them, else plain.
  static Result<std::unique_ptr<Ring>> Create();
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  void Receive(RingOp& op, int fd, std::span<uint8_t> into);
  void ReceiveMessage(RingOp& op, int fd, msghdr* message);
  void Send(RingOp& op, int fd, std::span<const uint8_t> bytes);
  void SendMessage(RingOp& op, int fd, const msghdr* message);
  /// The accepted socket is close-on-exec.
  void Accept(RingOp& op, int fd);
  void Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes, uint64_t offset_bytes);
  void Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes, uint64_t offset_bytes);
  void DataSync(RingOp& op, int fd);
  void Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes);
  /// `advice` is one of POSIX_FADV_.
  void Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes, int advice);
  /// `interval` must live until the operation is done. Completes with -ETIME.
  void Timeout(RingOp& op, __kernel_timespec* interval);
  /// Completes with 0 in the next Dispatch.
  void Nop(RingOp& op);

  /// Asks the kernel to give up a pending operation. The operation still completes, with -ECANCELED
  /// when the cancellation won the race.
  void Cancel(RingOp& op);

  /// Submits what was collected and waits for at least one completion. An error means that the ring
  /// is unusable.
  Status SubmitAndWait();
  /// Calls OnRingDone of every completed operation.
  void Dispatch();

  /// Cancels everything and reaps it, calling OnRingReaped instead of OnRingDone. False when
  /// operations were still pending after `timeout_ns`: their memory must then never be freed.
  bool CancelAll(int64_t timeout_ns);

  size_t pending_count() const { return pending_count_; }

 private:
  Ring() = default;
  io_uring_sqe* Begin(RingOp& op);
  io_uring_sqe* NextEntry();
  void Finish(RingOp& op);

  io_uring ring_{};
  bool ready_ = false;
  int broken_errno_ = 0;
  RingOp* first_ = nullptr;
  size_t pending_count_ = 0;
};

}  // namespace keyhold

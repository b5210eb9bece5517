// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/time_types.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"
#include "core/io/engine.h"
#include "core/io/ring_call.h"

namespace keyhold {

class Ring;

/// One operation at a time on a Ring, embedded in the object that owns the memory it works on. The
/// kernel, or a thread of the ring, may touch that memory until `pending()` is false again, so
/// destroying a pending operation is a programmer's error and aborts.
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
  RingCall call_;
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

/// What a shard waits on: sockets, files, timers. Used by the thread that created it and no other.
/// Operations are collected and begin in SubmitAndWait, completions come out in Dispatch: so one
/// turn carries a batch each way.
///
/// Two engines stand behind it: UringRing, and EpollRing for hosts that forbid io_uring.
class Ring {
 public:
  static Result<std::unique_ptr<Ring>> Create(Engine engine);
  virtual ~Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Sockets: at most one of the receiving and one of the sending kind is pending on a descriptor.
  virtual void Receive(RingOp& op, int fd, std::span<uint8_t> into) = 0;
  virtual void ReceiveMessage(RingOp& op, int fd, msghdr* message) = 0;
  virtual void Send(RingOp& op, int fd, std::span<const uint8_t> bytes) = 0;
  virtual void SendMessage(RingOp& op, int fd, const msghdr* message) = 0;
  /// The accepted socket is close-on-exec.
  virtual void Accept(RingOp& op, int fd) = 0;
  /// Waits until an eventfd is not zero, takes its count and makes it zero again.
  virtual void ReadEvent(RingOp& op, int fd, uint64_t* count) = 0;

  // Regular files and block devices.
  virtual void Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes,
                    uint64_t offset_bytes) = 0;
  virtual void Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes,
                     uint64_t offset_bytes) = 0;
  virtual void DataSync(RingOp& op, int fd) = 0;
  virtual void Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes,
                        uint64_t length_bytes) = 0;
  /// `advice` is one of POSIX_FADV_.
  virtual void Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes,
                      int advice) = 0;

  /// `interval` must live until the operation is done. Completes with -ETIME.
  virtual void Timeout(RingOp& op, __kernel_timespec* interval) = 0;
  /// Completes with 0 in the next Dispatch.
  virtual void Nop(RingOp& op) = 0;

  /// Asks to give up a pending operation. It still completes, in a Dispatch: with -ECANCELED when
  /// the cancellation won the race, and as if nothing had been asked when a file operation runs.
  virtual void Cancel(RingOp& op) = 0;

  /// Begins what was collected and waits for at least one completion. An error means that the ring
  /// is unusable.
  virtual Status SubmitAndWait() = 0;
  /// The same without waiting.
  virtual Status Submit() = 0;
  /// After Submit: whether something is completed, or would be by another Submit.
  virtual bool HasNews() = 0;
  /// Calls OnRingDone of every completed operation.
  virtual void Dispatch() = 0;

  /// Cancels everything and reaps it, calling OnRingReaped instead of OnRingDone. False when
  /// operations were still pending after `timeout_ns`: their memory must then never be freed, nor
  /// the ring.
  bool CancelAll(int64_t timeout_ns);

  size_t pending_count() const { return pending_count_; }

 protected:
  Ring() = default;
  /// Puts `op` on the list of what is pending.
  void Begin(RingOp& op);
  static bool Pending(const RingOp& op) { return op.pending_; }
  static RingCall& CallOf(RingOp& op) { return op.call_; }
  /// Ends `op` and tells its owner. Nothing may touch `op` afterwards: the owner may be gone.
  void Complete(RingOp& op, int32_t result);
  void Reap(RingOp& op, int32_t result);
  /// Reaps what is completed, having waited for it at most `wait_ns`. False when the ring is
  /// unusable.
  virtual bool ReapSome(int64_t wait_ns) = 0;

 private:
  void Finish(RingOp& op);

  RingOp* first_ = nullptr;
  size_t pending_count_ = 0;
};

}  // namespace keyhold

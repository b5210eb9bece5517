// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "core/io/file_pool.h"
#include "core/io/ring.h"
#include "core/io/unique_fd.h"

namespace keyhold {

/// The engine for hosts that forbid io_uring. Sockets: the call is tried, and what would block
/// waits in epoll. Files: what is in the page cache is read at once, the rest goes to threads.
///
/// Each wait is armed for one event. A registration that lasted would save a call, but the ring
/// does not see descriptors being closed, so it would take an old socket's registration for that of
/// a new one with the same number.
class EpollRing final : public Ring {
 public:
  static Result<std::unique_ptr<Ring>> Create();
  /// Aborts while operations are pending: their threads use this object.
  ~EpollRing() override;

  void Receive(RingOp& op, int fd, std::span<uint8_t> into) override;
  void ReceiveMessage(RingOp& op, int fd, msghdr* message) override;
  void Send(RingOp& op, int fd, std::span<const uint8_t> bytes) override;
  void SendMessage(RingOp& op, int fd, const msghdr* message) override;
  void Accept(RingOp& op, int fd) override;
  void ReadEvent(RingOp& op, int fd, uint64_t* count) override;
  void Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes,
            uint64_t offset_bytes) override;
  void Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes,
             uint64_t offset_bytes) override;
  void DataSync(RingOp& op, int fd) override;
  void Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes,
                uint64_t length_bytes) override;
  void Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes,
              int advice) override;
  void Timeout(RingOp& op, __kernel_timespec* interval) override;
  void Nop(RingOp& op) override;
  void Cancel(RingOp& op) override;
  Status SubmitAndWait() override;
  Status Submit() override;
  bool HasNews() override;
  void Dispatch() override;

 private:
  static constexpr int kEventsMax = 64;  // of one epoll_wait; more come with the next
  struct Waiters {
    RingCall* receiver = nullptr;
    RingCall* sender = nullptr;
  };

  EpollRing() = default;
  RingCall& Collect(RingOp& op, RingCall::Kind kind, int fd);
  void Start(RingCall& call);
  void Await(RingCall& call);
  void Retry(RingCall*& waiter);
  void Arm(int fd);
  void OnReady(int fd, uint32_t events);
  void Done(RingCall& call, int32_t result);
  void TakeFromPool();
  void ExpireTimers();
  int WaitMs(int64_t wait_ns) const;
  /// Waits at most so long for at least one completion; negative: for ever.
  Status Turn(int64_t wait_ns);
  bool ReapSome(int64_t wait_ns) override;

  UniqueFd epoll_fd_;
  std::unique_ptr<FilePool> pool_;
  std::vector<Waiters> waiters_;  // by descriptor
  RingCallList fresh_;
  RingCallList timers_;  // few: the shard's tick
  RingCallList done_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <memory>

#include "core/io/ring.h"

namespace keyhold {

/// One io_uring. Submissions are collected and go to the kernel in SubmitAndWait: one system call
/// carries a batch each way.
class UringRing final : public Ring {
 public:
  static constexpr unsigned kSubmissionEntries =
      1024;  // a full queue is submitted early, not refused
  static constexpr unsigned kCompletionEntries =
      8192;  // beyond it the kernel keeps an overflow list

  /// SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN | TASKRUN_FLAG where the kernel has them, else
  /// plain.
  static Result<std::unique_ptr<Ring>> Create();
  /// Whether so many rings can be had at once, and used.
  static Status Probe(uint32_t rings);
  ~UringRing() override;

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
  /// Reads memory that the kernel shares, without a system call.
  bool HasNews() override;
  void Dispatch() override;

 private:
  UringRing() = default;
  static Result<std::unique_ptr<UringRing>> Make();
  static Status ProbeHere(uint32_t rings);
  io_uring_sqe* BeginEntry(RingOp& op);
  io_uring_sqe* NextEntry();
  Status Entered(int result) const;
  bool ReapSome(int64_t wait_ns) override;

  io_uring ring_{};
  bool ready_ = false;
  int broken_errno_ = 0;
};

}  // namespace keyhold

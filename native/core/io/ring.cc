// SPDX-License-Identifier: Apache-2.0
#include "core/io/ring.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "core/disk/lease.h"

namespace keyhold {

RingOp::~RingOp() {
  if (pending_) std::abort();
}

Result<std::unique_ptr<Ring>> Ring::Create() {
  constexpr std::array<unsigned, 3> kFlagSets = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
          IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL, 0};
  std::unique_ptr<Ring> ring(new Ring());
  int result = 0;
  for (unsigned flags : kFlagSets) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletionEntries;
    result = io_uring_queue_init_params(kSubmissionEntries, &ring->ring_, &params);
    if (result != -EINVAL) break;
  }
  if (result < 0) {
    return Error{ErrorCode::kSystem, -result,
                 std::string("set up io_uring: ") + std::strerror(-result)};
  }
  ring->ready_ = true;
  return ring;
}

Ring::~Ring() {
  if (ready_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Ring::NextEntry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry != nullptr) return entry;
  int submitted = io_uring_submit(&ring_);
  entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) broken_errno_ = submitted < 0 ? -submitted : EBUSY;
  return entry;
}

io_uring_sqe* Ring::Begin(RingOp& op) {
  if (op.pending_) std::abort();
  io_uring_sqe* entry = NextEntry();
  // Without an entry the ring is broken: SubmitAndWait says so, and the loop that owns it ends.
  if (entry == nullptr) return nullptr;
  op.pending_ = true;
  op.previous_ = nullptr;
  op.next_ = first_;
  if (first_ != nullptr) first_->previous_ = &op;
  first_ = &op;
  ++pending_count_;
  return entry;
}

void Ring::Finish(RingOp& op) {
  op.pending_ = false;
  if (op.previous_ != nullptr) op.previous_->next_ = op.next_;
  if (op.next_ != nullptr) op.next_->previous_ = op.previous_;
  if (first_ == &op) first_ = op.next_;
  op.previous_ = op.next_ = nullptr;
  --pending_count_;
}

void Ring::Receive(RingOp& op, int fd, std::span<uint8_t> into) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_recv(entry, fd, into.data(), into.size(), 0);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::ReceiveMessage(RingOp& op, int fd, msghdr* message) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_recvmsg(entry, fd, message, 0);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Send(RingOp& op, int fd, std::span<const uint8_t> bytes) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_send(entry, fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::SendMessage(RingOp& op, int fd, const msghdr* message) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_sendmsg(entry, fd, message, MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Accept(RingOp& op, int fd) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_accept(entry, fd, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes, uint64_t offset_bytes) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_read(entry, fd, into, length_bytes, offset_bytes);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes,
                 uint64_t offset_bytes) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_write(entry, fd, from, length_bytes, offset_bytes);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::DataSync(RingOp& op, int fd) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes, uint64_t length_bytes) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_fallocate(entry, fd, mode, static_cast<off_t>(offset_bytes),
                          static_cast<off_t>(length_bytes));
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes, int advice) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_fadvise(entry, fd, offset_bytes, static_cast<off_t>(length_bytes), advice);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Timeout(RingOp& op, __kernel_timespec* interval) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_timeout(entry, interval, 0, 0);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Nop(RingOp& op) {
  io_uring_sqe* entry = Begin(op);
  if (entry == nullptr) return;
  io_uring_prep_nop(entry);
  io_uring_sqe_set_data(entry, &op);
}

void Ring::Cancel(RingOp& op) {
  if (!op.pending_) return;
  io_uring_sqe* entry = NextEntry();
  if (entry == nullptr) return;
  io_uring_prep_cancel(entry, &op, 0);
  io_uring_sqe_set_data(entry, nullptr);
}

Status Ring::SubmitAndWait() {
  int result = broken_errno_ != 0 ? -broken_errno_ : io_uring_submit_and_wait(&ring_, 1);
  // EAGAIN and EBUSY: the kernel wants completions reaped first, which the caller does next.
  if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY) return Ok();
  return Error{ErrorCode::kSystem, -result,
               std::string("enter io_uring: ") + std::strerror(-result)};
}

void Ring::Dispatch() {
  constexpr unsigned kBatch = 64;
  std::array<io_uring_cqe*, kBatch> entries;
  std::array<std::pair<RingOp*, int32_t>, kBatch> done;
  unsigned count = 0;
  do {
    count = io_uring_peek_batch_cqe(&ring_, entries.data(), kBatch);
    for (unsigned i = 0; i < count; ++i) {
      done[i] = {static_cast<RingOp*>(io_uring_cqe_get_data(entries[i])), entries[i]->res};
    }
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) {
      RingOp* op = done[i].first;
      if (op == nullptr) continue;  // the answer to a Cancel
      Finish(*op);
      op->OnRingDone(done[i].second);
    }
  } while (count == kBatch);
}

bool Ring::CancelAll(int64_t timeout_ns) {
  if (broken_errno_ != 0) return pending_count_ == 0;
  for (RingOp* op = first_; op != nullptr; op = op->next_) Cancel(*op);
  const int64_t deadline_ns = BootTimeNs() + timeout_ns;
  while (pending_count_ > 0 && BootTimeNs() < deadline_ns) {
    __kernel_timespec wait{0, 20'000'000};  // polls: a lost wake-up must not outlive the deadline
    io_uring_cqe* entry = nullptr;
    int result = io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &wait, nullptr);
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN &&
        result != -EBUSY) {
      return false;
    }
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
      RingOp* op = static_cast<RingOp*>(io_uring_cqe_get_data(entry));
      const int32_t reaped = entry->res;
      io_uring_cqe_seen(&ring_, entry);
      if (op == nullptr) continue;
      Finish(*op);
      op->OnRingReaped(reaped);
    }
  }
  return pending_count_ == 0;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/io/uring_ring.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace keyhold {
namespace {

// liburing maps and unmaps a ring by system calls of its own, which ThreadSanitizer does not see: a
// ring at the address of one that another thread has given back would look like a race of the two.
// The kernel orders them, and that is said here.
#ifdef __SANITIZE_THREAD__
char ring_addresses;
void AddressesTaken() { __tsan_acquire(&ring_addresses); }
void AddressesGivenBack() { __tsan_release(&ring_addresses); }
#else
void AddressesTaken() {}
void AddressesGivenBack() {}
#endif

}  // namespace

Result<std::unique_ptr<Ring>> UringRing::Create() {
  Result<std::unique_ptr<UringRing>> ring = Make();
  if (!ring) return ring.error();
  return std::unique_ptr<Ring>(ring.Take());
}

Result<std::unique_ptr<UringRing>> UringRing::Make() {
  constexpr std::array<unsigned, 3> kFlagSets = {
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
          IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
      IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL, 0};
  std::unique_ptr<UringRing> ring(new UringRing());
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
  AddressesTaken();
  ring->ready_ = true;
  return ring;
}

Status UringRing::Probe(uint32_t rings) {
  // The kernel takes a ring down with work that interrupts the system calls of the thread that used
  // it: not the caller, whose next call may be one that does not begin again by itself.
  Status result = Ok();
  std::thread([&result, rings] { result = ProbeHere(rings); }).join();
  return result;
}

Status UringRing::ProbeHere(uint32_t rings) {
  std::vector<std::unique_ptr<UringRing>> held;
  while (held.size() < rings) {
    Result<std::unique_ptr<UringRing>> ring = Make();
    if (!ring) return ring.error();
    held.push_back(ring.Take());
  }
  // A filter may let a ring be made and yet forbid its use.
  UringRing& last = *held.back();
  io_uring_sqe* entry = last.NextEntry();
  if (entry == nullptr) std::abort();  // the queue is empty
  io_uring_prep_nop(entry);
  io_uring_sqe_set_data(entry, nullptr);
  return last.SubmitAndWait();
}

UringRing::~UringRing() {
  if (!ready_) return;
  AddressesGivenBack();
  io_uring_queue_exit(&ring_);
}

io_uring_sqe* UringRing::NextEntry() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (entry != nullptr) return entry;
  int submitted = io_uring_submit(&ring_);
  entry = io_uring_get_sqe(&ring_);
  if (entry == nullptr) broken_errno_ = submitted < 0 ? -submitted : EBUSY;
  return entry;
}

io_uring_sqe* UringRing::BeginEntry(RingOp& op) {
  if (Pending(op)) std::abort();
  io_uring_sqe* entry = NextEntry();
  // Without an entry the ring is broken: SubmitAndWait says so, and the loop that owns it ends.
  if (entry == nullptr) return nullptr;
  Begin(op);
  return entry;
}

void UringRing::Receive(RingOp& op, int fd, std::span<uint8_t> into) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_recv(entry, fd, into.data(), into.size(), 0);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::ReceiveMessage(RingOp& op, int fd, msghdr* message) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_recvmsg(entry, fd, message, 0);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Send(RingOp& op, int fd, std::span<const uint8_t> bytes) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_send(entry, fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::SendMessage(RingOp& op, int fd, const msghdr* message) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_sendmsg(entry, fd, message, MSG_NOSIGNAL);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Accept(RingOp& op, int fd) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_accept(entry, fd, nullptr, nullptr, SOCK_CLOEXEC);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::ReadEvent(RingOp& op, int fd, uint64_t* count) {
  Read(op, fd, reinterpret_cast<uint8_t*>(count), sizeof *count, 0);
}

void UringRing::Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes,
                     uint64_t offset_bytes) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_read(entry, fd, into, length_bytes, offset_bytes);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes,
                      uint64_t offset_bytes) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_write(entry, fd, from, length_bytes, offset_bytes);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::DataSync(RingOp& op, int fd) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_fsync(entry, fd, IORING_FSYNC_DATASYNC);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes,
                         uint64_t length_bytes) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_fallocate(entry, fd, mode, static_cast<off_t>(offset_bytes),
                          static_cast<off_t>(length_bytes));
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes,
                       int advice) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_fadvise(entry, fd, offset_bytes, static_cast<off_t>(length_bytes), advice);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Timeout(RingOp& op, __kernel_timespec* interval) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_timeout(entry, interval, 0, 0);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Nop(RingOp& op) {
  io_uring_sqe* entry = BeginEntry(op);
  if (entry == nullptr) return;
  io_uring_prep_nop(entry);
  io_uring_sqe_set_data(entry, &op);
}

void UringRing::Cancel(RingOp& op) {
  if (!Pending(op)) return;
  io_uring_sqe* entry = NextEntry();
  if (entry == nullptr) return;
  io_uring_prep_cancel(entry, &op, 0);
  io_uring_sqe_set_data(entry, nullptr);
}

Status UringRing::SubmitAndWait() {
  return Entered(broken_errno_ != 0 ? -broken_errno_ : io_uring_submit_and_wait(&ring_, 1));
}

Status UringRing::Submit() {
  return Entered(broken_errno_ != 0 ? -broken_errno_ : io_uring_submit_and_get_events(&ring_));
}

bool UringRing::HasNews() {
  constexpr unsigned kWorkForUs = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
  return io_uring_cq_ready(&ring_) > 0 || (IO_URING_READ_ONCE(*ring_.sq.kflags) & kWorkForUs) != 0;
}

Status UringRing::Entered(int result) const {
  // EAGAIN and EBUSY: the kernel wants completions reaped first, which the caller does next.
  if (result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY) return Ok();
  return Error{ErrorCode::kSystem, -result,
               std::string("enter io_uring: ") + std::strerror(-result)};
}

void UringRing::Dispatch() {
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
      Complete(*op, done[i].second);
    }
  } while (count == kBatch);
}

bool UringRing::ReapSome(int64_t wait_ns) {
  if (broken_errno_ != 0) return false;
  __kernel_timespec wait{0, wait_ns};
  io_uring_cqe* entry = nullptr;
  const int result = io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &wait, nullptr);
  if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
    return false;
  }
  while (io_uring_peek_cqe(&ring_, &entry) == 0) {
    RingOp* op = static_cast<RingOp*>(io_uring_cqe_get_data(entry));
    const int32_t reaped = entry->res;
    io_uring_cqe_seen(&ring_, entry);
    if (op != nullptr) Reap(*op, reaped);
  }
  return true;
}

}  // namespace keyhold

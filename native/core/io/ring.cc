// SPDX-License-Identifier: Apache-2.0
#include "core/io/ring.h"

#include <algorithm>

#include "core/disk/lease.h"
#include "core/io/epoll_ring.h"
#include "core/io/uring_ring.h"

namespace keyhold {

RingOp::~RingOp() {
  if (pending_) std::abort();
}

Result<std::unique_ptr<Ring>> Ring::Create(Engine engine) {
  if (engine == Engine::kEpoll) return EpollRing::Create();
  return UringRing::Create();
}

void Ring::Begin(RingOp& op) {
  if (op.pending_) std::abort();
  op.pending_ = true;
  op.previous_ = nullptr;
  op.next_ = first_;
  if (first_ != nullptr) first_->previous_ = &op;
  first_ = &op;
  ++pending_count_;
}

void Ring::Finish(RingOp& op) {
  op.pending_ = false;
  if (op.previous_ != nullptr) op.previous_->next_ = op.next_;
  if (op.next_ != nullptr) op.next_->previous_ = op.previous_;
  if (first_ == &op) first_ = op.next_;
  op.previous_ = op.next_ = nullptr;
  --pending_count_;
}

void Ring::Complete(RingOp& op, int32_t result) {
  Finish(op);
  op.OnRingDone(result);
}

void Ring::Reap(RingOp& op, int32_t result) {
  Finish(op);
  op.OnRingReaped(result);
}

bool Ring::CancelAll(int64_t timeout_ns) {
  constexpr int64_t kPollNs = 20'000'000;  // a lost wake-up must not outlive the deadline
  for (RingOp* op = first_; op != nullptr; op = op->next_) Cancel(*op);
  const int64_t deadline_ns = BootTimeNs() + timeout_ns;
  while (pending_count_ > 0 && BootTimeNs() < deadline_ns) {
    if (!ReapSome(kPollNs)) return false;
  }
  return pending_count_ == 0;
}

}  // namespace keyhold

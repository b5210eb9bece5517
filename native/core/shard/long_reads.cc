// SPDX-License-Identifier: Apache-2.0
#include "core/shard/long_reads.h"

#include <algorithm>

#include "core/shard/request.h"

namespace keyhold {

void LongReads::Add(Request& request) { waiting_.push_back(&request); }

bool LongReads::Withdraw(Request& request) {
  const auto found = std::find(waiting_.begin(), waiting_.end(), &request);
  if (found != waiting_.end()) {
    waiting_.erase(found);
    return true;
  }
  if (threads_ == nullptr || !threads_->Withdraw(shard_, request)) return false;
  --offered_;
  return true;
}

void LongReads::Work() {
  uint64_t bytes = 0;
  more_ = false;
  while (Request* const request = Next()) {
    OfferSome();
    bytes += request->cost_bytes();
    request->TakeTurn();
    if (bytes >= kTurnBytes) {
      more_ = offered_ > 0;
      return;
    }
  }
}

/// The oldest; of those that are offered only when no other is left.
Request* LongReads::Next() {
  if (waiting_.empty()) {
    CipherJob* const job = offered_ == 0 ? nullptr : threads_->WithdrawFirst(shard_);
    if (job == nullptr) return nullptr;
    --offered_;
    return static_cast<Request*>(job);
  }
  Request* const request = waiting_.front();
  waiting_.pop_front();
  return request;
}

void LongReads::OfferSome() {
  if (threads_ == nullptr) return;
  while (!waiting_.empty() && offered_ < size_t{kOfferedPerThread} * threads_->count()) {
    Request& request = *waiting_.front();
    if (!request.PrepareAway()) return;
    waiting_.pop_front();
    ++offered_;
    threads_->Offer(shard_, request);
  }
}

void LongReads::Drain() {
  if (threads_ != nullptr) threads_->Drain(shard_);
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/store/store.h"

namespace keyhold {

void StoreOp::OnRingDone(int32_t result) { store_->Continue(*ring_, *this, result); }

void Store::Adopt(Ring& ring, StoreOp& op) {
  if ((op.kind == StoreOp::Kind::kRead || op.kind == StoreOp::Kind::kWrite) &&
      op.length_bytes > StoreOp::kTransferBytesMax) {
    std::abort();
  }
  op.store_ = this;
  op.ring_ = &ring;
  op.done_bytes_ = 0;
}

void Store::Submit(Ring& ring, StoreOp& op) {
  Adopt(ring, op);
  Start(ring, op);
}

std::optional<int32_t> Store::SubmitOrFinish(Ring& ring, StoreOp& op) {
  const std::optional<int32_t> result = TryFinish(ring, op);
  if (!result) Start(ring, op);
  return result;
}

std::optional<int32_t> Store::TryFinish(Ring& ring, StoreOp& op) {
  Adopt(ring, op);
  return RunNow(op);
}

}  // namespace keyhold

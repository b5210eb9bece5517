// SPDX-License-Identifier: Apache-2.0
// CACHE: ciphertext is read ahead into the host's page cache. Nothing is decrypted.
#include <algorithm>
#include <cerrno>

#include "core/shard/request.h"

namespace keyhold {

void Request::CacheNext() {
  Submit(Phase::kStore, Kind::kCache, piece_next_, nullptr,
         std::min(StoreOp::kCacheBytesMax, pieces_end_ - piece_next_));
}

void Request::OnCached(int32_t result) {
  if (result < 0 && result != -EOPNOTSUPP) {
    StoreFailed(result);
    return;
  }
  piece_next_ += StoreOp::length_bytes;
  if (result == -EOPNOTSUPP || piece_next_ >= pieces_end_) {
    Finish({});  // a hint: done, or more than the store can do
  } else {
    Begin();
  }
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
// TRIM and WRITE_ZEROES.
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"
#include "core/shard/with_key.h"

namespace keyhold {
namespace {

/// What is written where a store cannot punch or zero a range itself. Never written to.
alignas(4096) std::array<uint8_t, Request::kZeroPieceBytes> zero_piece{};

}  // namespace

/// Rounds inwards to whole sectors. A disk without the hole rule keeps its data: punched sectors
/// would decrypt to noise, and a client may rely on nothing after TRIM anyway.
void Request::BeginTrim() {
  const uint64_t sector = sector_bytes();
  const uint64_t begin = (offset_bytes_ + sector - 1) / sector * sector;
  const uint64_t end = (offset_bytes_ + length_bytes_) / sector * sector;
  if (begin >= end || !disk().geometry().holes) {
    Stored();
    return;
  }
  span_offset_ = begin;
  span_bytes_ = end - begin;
  phase_ = Phase::kLock;
  if (disk().locks().Acquire(*this, begin / sector, span_bytes_ / sector, LockKind::kExclusive)) {
    lock_held_ = true;
    Begin();
  }
}

/// Also the way back in after a park: goes on with the step at which it was.
void Request::BeginZeroes() {
  const uint64_t sector = sector_bytes();
  if (zero_step_ == ZeroStep::kHead) {
    zero_next_ = (offset_bytes_ + sector - 1) / sector * sector;
    zero_end_ = (offset_bytes_ + length_bytes_) / sector * sector;
  }
  NextZeroStep();
}

/// Starts the current step if there is anything to do in it, else goes to the next.
void Request::NextZeroStep() {
  if (zero_step_ == ZeroStep::kHead) {
    if (head_partial() || (single_sector() && tail_partial())) {
      FillZeroEdge();
      return;
    }
    zero_step_ = ZeroStep::kMiddle;
  }
  if (zero_step_ == ZeroStep::kMiddle) {
    if (zero_next_ < zero_end_) {
      ZeroMiddle();
      return;
    }
    zero_step_ = ZeroStep::kTail;
  }
  if (zero_step_ == ZeroStep::kTail && tail_partial() && !single_sector()) {
    FillZeroEdge();
    return;
  }
  Stored();
}

void Request::FillZeroEdge() {
  const uint32_t sector = sector_bytes();
  if (!EnsureEdgeBuffer(sector)) {
    Finish(kNoMemoryError);
    return;
  }
  const uint64_t last = span_offset_ + span_bytes_ - sector;
  Submit(Phase::kFill, Kind::kRead, zero_step_ == ZeroStep::kHead ? span_offset_ : last,
         edge_.data(), sector);
}

/// Old contents of a partial sector are in: zero our part of them and write the sector back.
void Request::EncryptZeroEdge() {
  const uint32_t sector = sector_bytes();
  const uint64_t at = zero_step_ == ZeroStep::kHead ? 0 : span_bytes_ - sector;
  const uint64_t begin = std::max<uint64_t>(at, head_skip_) - at;
  const uint64_t end = std::min<uint64_t>(at + sector, head_skip_ + uint64_t{length_bytes_}) - at;
  uint8_t* bytes = edge_.data();
  const DiskState state = WithKey(disk(), session_.shard().index(), [&](const xts::Cipher& cipher) {
    Decrypt(cipher, bytes, sector, unit(at));
    std::memset(bytes + begin, 0, end - begin);
    // A sector that is all zeros now stays (or becomes) a hole.
    const bool hole =
        disk().geometry().holes && bytes[0] == 0 && std::memcmp(bytes, bytes + 1, sector - 1) == 0;
    if (!hole) cipher.EncryptRun(bytes, bytes, sector, unit(at));
  });
  if (state != DiskState::kServing) {
    phase_ = Phase::kCipher;
    LoseKey(state);
    return;
  }
  session_.disk().counters().encrypted_bytes.Add(sector);
  Submit(Phase::kStore, Kind::kWrite, span_offset_ + at, bytes, sector);
}

void Request::ZeroMiddle() {
  if (!disk().geometry().holes) {
    EncryptZeroPiece();
  } else if (zero_by_range_) {
    const bool keep_allocated = (flags_ & wire::kNoHole) != 0;
    Submit(Phase::kStore, keep_allocated ? Kind::kZero : Kind::kPunch, zero_next_, nullptr,
           zero_end_ - zero_next_);
  } else {
    WriteZeroPiece();
  }
}

/// Zero ciphertext is a hole and reads as zeros: no key is needed, but a disk that went offline
/// stops.
void Request::WriteZeroPiece() {
  if (disk().state() == DiskState::kLocked) {
    Finish(kShutdownError);
    return;
  }
  const uint64_t length = std::min<uint64_t>(kZeroPieceBytes, zero_end_ - zero_next_);
  Submit(Phase::kStore, Kind::kWrite, zero_next_, zero_piece.data(), length);
}

/// Without the hole rule zeros are data like any other.
void Request::EncryptZeroPiece() {
  const uint64_t length = std::min<uint64_t>(kZeroPieceBytes, zero_end_ - zero_next_);
  if (!buffer_) buffer_ = session_.shard().pool().Take(kZeroPieceBytes, session_.disk().owner());
  if (!buffer_) {
    Finish(kNoMemoryError);
    return;
  }
  if (cipher_done_ == 0) std::memset(buffer_.data(), 0, length);
  while (cipher_done_ < length) {
    const size_t chunk = std::min<uint64_t>(kCipherChunkBytes, length - cipher_done_);
    const DiskState state =
        WithKey(disk(), session_.shard().index(), [&](const xts::Cipher& cipher) {
          uint8_t* bytes = buffer_.data() + cipher_done_;
          cipher.EncryptRun(bytes, bytes, chunk, (zero_next_ + cipher_done_) / 512);
        });
    if (state != DiskState::kServing) {
      phase_ = Phase::kCipher;
      LoseKey(state);
      return;
    }
    cipher_done_ += chunk;
    session_.disk().counters().encrypted_bytes.Add(chunk);
  }
  Submit(Phase::kStore, Kind::kWrite, zero_next_, buffer_.data(), length);
}

void Request::OnZeroStored(int32_t result) {
  const bool by_range = kind == Kind::kPunch || kind == Kind::kZero;
  if (by_range && result == -EOPNOTSUPP) {
    zero_by_range_ = false;
    WriteZeroPiece();
    return;
  }
  if (result < 0) {
    StoreFailed(result);
    return;
  }
  if (zero_step_ == ZeroStep::kMiddle) {
    zero_next_ += StoreOp::length_bytes;
    cipher_done_ = 0;
  } else {
    zero_step_ = zero_step_ == ZeroStep::kHead ? ZeroStep::kMiddle : ZeroStep::kDone;
  }
  const bool tail_left = tail_partial() && !single_sector();
  if (zero_step_ == ZeroStep::kDone || (zero_next_ >= zero_end_ && !tail_left)) {
    Stored();  // needs no key any more
  } else {
    Begin();  // a long request asks at each piece whether it may go on
  }
}

}  // namespace keyhold

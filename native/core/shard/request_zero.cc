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

/// The first whole sector.
uint64_t Request::ZeroBegin() const {
  const uint64_t sector = sector_bytes();
  return (offset_bytes_ + sector - 1) / sector * sector;
}

uint64_t Request::ZeroPieceBytes() const {
  return std::min(zero_by_range_ ? kRangePieceBytes : kZeroPieceBytes, pieces_end_ - piece_next_);
}

/// Locks what the next step needs, or is done. The whole sectors come first: only so can a fast
/// zero that the store turns down leave all data untouched.
void Request::NextZeroStep() {
  const uint64_t sector = sector_bytes();
  const uint64_t last = span_offset_ + span_bytes_ - sector;
  if (zero_step_ == ZeroStep::kMiddle) {
    if (piece_next_ < pieces_end_) {
      Lock(piece_next_, piece_next_ + ZeroPieceBytes(), LockKind::kExclusive);
      return;
    }
    zero_step_ = command_ == Command::kTrim ? ZeroStep::kDone : ZeroStep::kHead;
  }
  if (zero_step_ == ZeroStep::kHead) {
    if (head_partial() || (single_sector() && tail_partial())) {
      Lock(span_offset_, span_offset_ + sector, LockKind::kExclusive);
      return;
    }
    zero_step_ = ZeroStep::kTail;
  }
  if (zero_step_ == ZeroStep::kTail && tail_partial() && !single_sector()) {
    Lock(last, last + sector, LockKind::kExclusive);
    return;
  }
  Stored();
}

/// The lock is held. Also the way back in after a park: does the step at which it was.
void Request::RunZeroStep() {
  if (zero_step_ != ZeroStep::kMiddle) {
    FillZeroEdge();
  } else if (zero_by_range_) {
    const bool keep_allocated = (flags_ & wire::kNoHole) != 0;
    Submit(Phase::kStore, keep_allocated ? Kind::kZero : Kind::kPunch, piece_next_, nullptr,
           ZeroPieceBytes());
  } else if (disk().geometry().holes) {
    // Zero ciphertext is a hole and reads as zeros.
    Submit(Phase::kStore, Kind::kWrite, piece_next_, zero_piece.data(), ZeroPieceBytes());
  } else {
    EncryptZeroPiece();
  }
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
  const uint64_t end = std::min<uint64_t>(at + sector, head_skip_ + length_bytes_) - at;
  uint8_t* bytes = edge_.data();
  const DiskState state = WithKey(disk(), session_.shard().index(), [&](const xts::Cipher& cipher) {
    DecryptEdge(cipher, bytes, at);
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

/// Without the hole rule zeros are data like any other.
void Request::EncryptZeroPiece() {
  const uint64_t length = ZeroPieceBytes();
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
          cipher.EncryptRun(bytes, bytes, chunk, (piece_next_ + cipher_done_) / 512);
        });
    if (state != DiskState::kServing) {
      phase_ = Phase::kCipher;
      LoseKey(state);
      return;
    }
    cipher_done_ += chunk;
    session_.disk().counters().encrypted_bytes.Add(chunk);
  }
  Submit(Phase::kStore, Kind::kWrite, piece_next_, buffer_.data(), length);
}

void Request::OnZeroStored(int32_t result) {
  const bool by_range = kind == Kind::kPunch || kind == Kind::kZero;
  if (by_range && result == -EOPNOTSUPP) {
    if (command_ == Command::kTrim) {
      Stored();  // a hint that the store cannot take
    } else if ((flags_ & wire::kFastZero) != 0 && piece_next_ == ZeroBegin()) {
      Finish(kNotFastError);
    } else {
      ReleaseLock();
      zero_by_range_ = false;
      NextZeroStep();
    }
    return;
  }
  if (result < 0) {
    StoreFailed(result);
    return;
  }
  ReleaseLock();
  if (zero_step_ == ZeroStep::kMiddle) {
    piece_next_ += StoreOp::length_bytes;
    cipher_done_ = 0;
  } else {
    zero_step_ = zero_step_ == ZeroStep::kHead ? ZeroStep::kTail : ZeroStep::kDone;
  }
  NextZeroStep();
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
// READ and WRITE between the store and the cipher.
#include <algorithm>
#include <cstring>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"
#include "core/shard/with_key.h"

namespace keyhold {

void Request::Decrypt(const xts::Cipher& cipher, uint8_t* bytes, size_t length,
                      uint64_t first_unit) const {
  if (disk().geometry().holes) {
    xts::DecryptRunWithHoles(cipher, bytes, bytes, length, first_unit, sector_bytes());
  } else {
    cipher.DecryptRun(bytes, bytes, length, first_unit);
  }
}

void Request::BeginRead() {
  holes_ = 0;
  filled_ = false;
  if (!WaitForTurn()) FillRead();
}

void Request::FillRead() {
  if (!TakeReadBuffer()) {
    Finish(kNoMemoryError);
    return;
  }
  Submit(Phase::kFill, Kind::kRead, span_offset_, buffer_.data(), span_bytes_);
}

bool Request::TakeReadBuffer() {
  if (!buffer_) buffer_ = session_.shard().pool().Take(span_bytes_, session_.disk().owner());
  return static_cast<bool>(buffer_);
}

void Request::DecryptRead() {
  FindHoles();
  EndDecrypted(DecryptSpan(session_.shard().index()));
}

/// Decrypts the span in place; stops at the first piece for which there is no key. Runs on a cipher
/// thread, too.
DiskState Request::DecryptSpan(uint32_t guard_slot) {
  for (uint64_t begin = 0; begin < span_bytes_; begin += kCipherChunkBytes) {
    const size_t length = std::min<uint64_t>(kCipherChunkBytes, span_bytes_ - begin);
    const DiskState state = WithKey(disk(), guard_slot, [&](const xts::Cipher& cipher) {
      Decrypt(cipher, buffer_.data() + begin, length, unit(begin));
    });
    if (state != DiskState::kServing) return state;
  }
  return DiskState::kServing;
}

void Request::EndDecrypted(DiskState state) {
  if (state == DiskState::kServing) {
    session_.disk().counters().decrypted_bytes.Add(span_bytes_);
    Finish({});
    return;
  }
  // What is decrypted already may not wait for the key to come back: read all of it again then.
  ForgetRead();
  LoseKey(state);
}

void Request::BeginWrite() {
  if (!head_partial() && !tail_partial()) {
    EncryptWrite();
    return;
  }
  if (!EnsureEdgeBuffer(2 * size_t{sector_bytes()})) {
    Finish(kNoMemoryError);
    return;
  }
  // A single sector has one edge buffer for both its ends: the head's.
  filling_tail_ = !head_partial() && !single_sector();
  FillEdge();
}

bool Request::EnsureEdgeBuffer(size_t bytes) {
  if (!edge_) edge_ = session_.shard().pool().Take(bytes, session_.disk().owner());
  return static_cast<bool>(edge_);
}

/// Reads the old contents of the partial head (or tail) sector of a WRITE.
void Request::FillEdge() {
  const uint32_t sector = sector_bytes();
  if (filling_tail_) {
    Submit(Phase::kFill, Kind::kRead, span_offset_ + span_bytes_ - sector, edge_.data() + sector,
           sector);
  } else {
    Submit(Phase::kFill, Kind::kRead, span_offset_, edge_.data(), sector);
  }
}

void Request::DecryptEdge(const xts::Cipher& cipher, uint8_t* old, uint64_t at) {
  Decrypt(cipher, old, sector_bytes(), unit(at));
  session_.disk().counters().decrypted_bytes.Add(sector_bytes());
}

/// Puts the old bytes around the payload if [begin, end) of the span holds them. Runs in the same
/// scope of the guard as the encryption that follows, so that no old plaintext is left if the key
/// goes.
void Request::MergeEdges(const xts::Cipher& cipher, size_t begin, size_t end) {
  const uint32_t sector = sector_bytes();
  const size_t payload_end = head_skip_ + length_bytes_;
  uint8_t* span = buffer_.data();
  if (begin == 0 && (head_partial() || (single_sector() && tail_partial()))) {
    uint8_t* old = edge_.data();
    DecryptEdge(cipher, old, 0);
    std::memcpy(span, old, head_skip_);
    if (single_sector()) {
      std::memcpy(span + payload_end, old + payload_end, sector - payload_end);
    }
    explicit_bzero(old, sector);
  }
  if (end == span_bytes_ && tail_partial() && !single_sector()) {
    uint8_t* old = edge_.data() + sector;
    const size_t last = span_bytes_ - sector;
    DecryptEdge(cipher, old, last);
    std::memcpy(span + payload_end, old + (payload_end - last), span_bytes_ - payload_end);
    explicit_bzero(old, sector);
  }
}

void Request::WorkOffPayload() {
  if (command_ != Command::kWrite || head_partial() || tail_partial()) return;
  const uint64_t arrived = payload_got_ / sector_bytes() * sector_bytes();
  if (arrived < cipher_done_ + kPayloadPieceBytes) return;
  const bool all_stored = store_done_ == cipher_done_;
  if (EncryptSpan(arrived) != DiskState::kServing || !all_stored) return;
  if (StoreSpanNow()) store_done_ = cipher_done_;
}

/// Whether what is encrypted and not stored yet went to the store at once.
bool Request::StoreSpanNow() {
  const uint64_t begin = span_offset_ + store_done_;
  const uint64_t bytes = cipher_done_ - store_done_;
  const uint32_t sector = sector_bytes();
  if (!disk().locks().TryAcquire(*this, begin / sector, bytes / sector, LockKind::kWrite)) {
    return false;
  }
  SetOperation(Kind::kWrite, begin, buffer_.data() + store_done_, bytes);
  const std::optional<int32_t> result = disk().store().TryFinish(session_.shard().ring(), *this);
  disk().locks().Release(*this);
  return result == 0;
}

void Request::EncryptWrite() {
  const DiskState state = EncryptSpan(span_bytes_);
  if (state != DiskState::kServing) {
    phase_ = Phase::kCipher;
    LoseKey(state);
    return;
  }
  edge_.Reset();
  Submit(Phase::kStore, Kind::kWrite, span_offset_ + store_done_, buffer_.data() + store_done_,
         span_bytes_ - store_done_);
}

/// Encrypts the span up to `end`; stops at the first piece for which there is no key.
DiskState Request::EncryptSpan(uint64_t end) {
  while (cipher_done_ < end) {
    const size_t length = std::min<uint64_t>(kCipherChunkBytes, end - cipher_done_);
    const DiskState state =
        WithKey(disk(), session_.shard().index(), [&](const xts::Cipher& cipher) {
          MergeEdges(cipher, cipher_done_, cipher_done_ + length);
          uint8_t* bytes = buffer_.data() + cipher_done_;
          cipher.EncryptRun(bytes, bytes, length, unit(cipher_done_));
        });
    if (state != DiskState::kServing) return state;
    cipher_done_ += length;
    session_.disk().counters().encrypted_bytes.Add(length);
  }
  return DiskState::kServing;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
// A long READ waits for its turn, and may go away to a cipher thread meanwhile:
//
//   kReady ─▶ kTurn ──the shard comes to it──▶ kFill ─▶ kCipher
//              │ offered                          ▲
//              ▼                                  │ the store would have to wait
//             away: a cipher thread fills and decrypts, and gives it back ──▶ kReply
//
// While it is away its buffers are the cipher thread's, so a key that goes, and a client that
// leaves, are dealt with when it is back: then what was decrypted is wiped, and it begins anew, or
// is refused or dropped. Until then its session is not quiet.
#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

/// False when a READ is short, or there is nobody to help.
bool Request::WaitForTurn() {
  LongReads& long_reads = session_.shard().long_reads();
  if (span_bytes_ < LongReads::kLongBytesMin || !long_reads.helped()) return false;
  phase_ = Phase::kTurn;
  long_reads.Add(*this);
  return true;
}

void Request::TakeTurn() {
  Session& session = session_;
  away_ = false;
  has_turn_ = true;
  if (filled_) {
    DecryptRead();
  } else {
    FillRead();
  }
  has_turn_ = false;
  session.SendOwed();
}

bool Request::PrepareAway() {
  if (!TakeReadBuffer() || (MayHaveHoles() && !EnsureSparseReply())) return false;
  SetOperation(Kind::kRead, span_offset_, buffer_.data(), span_bytes_);
  fill_result_.reset();
  away_ = true;
  return true;
}

void Request::RunAway(uint32_t guard_slot) {
  if (!filled_) {
    fill_result_ = disk().store().TryFinish(session_.shard().ring(), *this);
    if (fill_result_ != 0) return;
  }
  FindHoles();
  decrypt_state_ = DecryptSpan(guard_slot);
}

void Request::GiveBack() { session_.shard().mailbox().PostNews(*this); }

void Request::OnBack() {
  Session& session = session_;
  away_ = false;
  session.shard().long_reads().GivenBack();
  if (abandoned_) {
    ReleaseLock();
    session.Free(*this);
  } else if (redo_) {
    redo_ = false;
    SetParked(false);
    ForgetRead();
    if (lock_held_) {
      Begin();
    } else {
      Start();
    }
  } else if (!filled_ && !fill_result_) {
    phase_ = Phase::kFill;
    disk().store().Submit(session.shard().ring(), *this);
  } else if (!filled_ && *fill_result_ < 0) {
    StoreFailed(*fill_result_);
  } else {
    EndDecrypted(decrypt_state_);
  }
  session.SendOwed();
}

/// Takes a READ back before anybody has begun with it. False when it is away, and comes back by
/// itself.
bool Request::Withdraw() {
  if (!session_.shard().long_reads().Withdraw(*this)) return false;
  away_ = false;
  ForgetRead();
  return true;
}

/// Wipes what was read, or decrypted of it: to be read again.
void Request::ForgetRead() {
  if (buffer_) buffer_.Wipe();
  buffer_.Reset();
  edge_.Reset();
  holes_ = 0;
  filled_ = false;
  phase_ = Phase::kReady;
}

}  // namespace keyhold

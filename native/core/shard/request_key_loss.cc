// SPDX-License-Identifier: Apache-2.0
// What happens to a request when the disk's key goes or comes back, or its connection ends.
#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

void Request::LoseKey(DiskState state) {
  if (state == DiskState::kLocked) {
    Finish(kShutdownError);
  } else {
    SetParked(true);
  }
}

void Request::Quiesce(bool offline) {
  refused_ = refused_ || offline;
  switch (phase_) {
    case Phase::kPayload:
      buffer_.WipeOutside(head_skip_, head_skip_ + payload_got_);
      SetParked(true);
      return;
    case Phase::kLock:
      if (offline && disk().locks().CancelWait(*this)) {
        Finish(kShutdownError);
        return;
      }
      break;
    case Phase::kReady:
    case Phase::kCipher:
      if (offline) {
        Finish(kShutdownError);
        return;
      }
      break;
    case Phase::kTurn:
      if (!Withdraw()) {
        redo_ = true;
      } else if (offline) {
        Finish(kShutdownError);
        return;
      }
      break;
    case Phase::kFill:
      // The kernel may be writing ciphertext here just now: so what it reads is read once more.
      redo_ = true;
      edge_.Wipe();
      if (command_ == Command::kRead) buffer_.Wipe();
      break;
    case Phase::kIdle:
    case Phase::kStore:
    case Phase::kSync:
    case Phase::kReply:
      return;
  }
  if (command_ == Command::kWrite && buffer_) {
    // Only payload, or ciphertext in its place, stays; nothing of it when the request is refused.
    if (refused_) {
      buffer_.Wipe();
    } else {
      buffer_.WipeOutside(cipher_done_ > 0 ? 0 : head_skip_, head_skip_ + length_bytes_);
    }
  }
  SetParked(true);
}

void Request::AbandonPayload() {
  buffer_.Wipe();
  buffer_.Reset();
  SetParked(false);
}

void Request::Resume() {
  if (!parked_) return;
  SetParked(false);
  switch (phase_) {
    case Phase::kReady:
      if (lock_held_) {
        Begin();
      } else {
        Start();
      }
      return;
    case Phase::kCipher:
      if (command_ == Command::kWrite) {
        EncryptWrite();
      } else if (zero_step_ == ZeroStep::kMiddle) {
        EncryptZeroPiece();
      } else {
        EncryptZeroEdge();
      }
      return;
    default:
      return;  // the payload, the lock, the store or a cipher thread will wake it
  }
}

void Request::Abandon() {
  abandoned_ = true;
  switch (phase_) {
    case Phase::kIdle:
    case Phase::kFill:
    case Phase::kStore:
    case Phase::kSync:
      return;
    case Phase::kLock:
      // Not waiting any more means that the grant is in our mailbox.
      if (!disk().locks().CancelWait(*this)) return;
      break;
    case Phase::kTurn:
      if (!Withdraw()) return;
      break;
    case Phase::kPayload:
    case Phase::kReady:
    case Phase::kCipher:
    case Phase::kReply:
      break;
  }
  ReleaseLock();
  session_.Free(*this);
}

void Request::DropForGood() {
  if (pending()) return;  // leaked with its shard; its lock stays held
  disk().locks().Drop(*this);
  lock_held_ = false;
}

void Request::Unanswer(bool offline) {
  buffer_.Wipe();
  buffer_.Reset();
  edge_.Reset();
  holes_ = 0;
  if (offline) {
    session_.disk().CountRefused();
    error_ = wire::kShutdown;
    BuildReply(kShutdownError);
    return;
  }
  reply_holds_plaintext_ = false;
  phase_ = Phase::kReady;
  SetParked(true);
}

}  // namespace keyhold

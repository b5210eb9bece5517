// SPDX-License-Identifier: Apache-2.0
#include "core/shard/request.h"

#include <algorithm>
#include <cstring>

#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {
namespace {

Command CommandOf(uint16_t type) {
  switch (type) {
    case wire::kWrite:
      return Command::kWrite;
    case wire::kFlush:
      return Command::kFlush;
    case wire::kTrim:
      return Command::kTrim;
    case wire::kWriteZeroes:
      return Command::kWriteZeroes;
    default:
      return Command::kRead;
  }
}

}  // namespace

Disk& Request::disk() const { return session_.disk().disk(); }

uint64_t Request::CostBytes(const wire::RequestHeader& header) {
  switch (header.type) {
    case wire::kRead:
    case wire::kWrite:
      return std::min(header.length_bytes, wire::kPayloadBytesMax);
    case wire::kWriteZeroes:
      return std::min<uint64_t>(header.length_bytes, kZeroPieceBytes);
    default:
      return 0;
  }
}

void Request::Prepare(const wire::RequestHeader& header, int64_t now_ns) {
  type_ = header.type;
  command_ = CommandOf(header.type);
  flags_ = header.flags;
  cookie_ = header.cookie;
  offset_bytes_ = header.offset_bytes;
  length_bytes_ = header.length_bytes;
  cost_bytes_ = CostBytes(header);
  const uint64_t sector = sector_bytes();
  // A request that failed validation may wrap here; it never gets further than its error.
  span_offset_ = offset_bytes_ / sector * sector;
  head_skip_ = static_cast<uint32_t>(offset_bytes_ - span_offset_);
  span_bytes_ = (head_skip_ + uint64_t{length_bytes_} + sector - 1) / sector * sector;
  payload_got_ = 0;
  cipher_done_ = 0;
  filling_tail_ = false;
  zero_step_ = ZeroStep::kHead;
  zero_by_range_ = true;
  redo_ = refused_ = abandoned_ = recorded_ = false;
  received_ns_ = now_ns;
  phase_ = command_ == Command::kWrite ? Phase::kPayload : Phase::kReady;
}

bool Request::TakePayloadBuffer() {
  buffer_ = session_.shard().pool().Take(span_bytes_, session_.disk().owner());
  return static_cast<bool>(buffer_);
}

std::span<uint8_t> Request::payload_rest() {
  return {buffer_.data() + head_skip_ + payload_got_, length_bytes_ - payload_got_};
}

void Request::Start() {
  if (command_ == Command::kFlush) {
    Begin();
    return;
  }
  if (command_ == Command::kTrim) {
    BeginTrim();
    return;
  }
  LockKind lock_kind = LockKind::kExclusive;
  if (command_ == Command::kRead) {
    lock_kind = LockKind::kRead;
  } else if (command_ == Command::kWrite && !head_partial() && !tail_partial()) {
    lock_kind = LockKind::kWrite;
  }
  phase_ = Phase::kLock;
  if (disk().locks().Acquire(*this, span_offset_ / sector_bytes(), span_bytes_ / sector_bytes(),
                             lock_kind)) {
    lock_held_ = true;
    Begin();
  }
}

/// On the thread that released the lock, which need not be this request's own.
void Request::OnLockGranted() { session_.shard().mailbox().PostGrant(*this); }

void Request::OnLockNews() {
  lock_held_ = true;
  if (abandoned_) {
    ReleaseLock();
    session_.Free(*this);
    return;
  }
  SetParked(false);
  Begin();
}

/// The lock is held, or none is needed.
void Request::Begin() {
  phase_ = Phase::kReady;
  if (refused_) {
    Finish(kShutdownError);
    return;
  }
  if (command_ == Command::kFlush) {
    if (disk().state() == DiskState::kLocked) {
      Finish(kShutdownError);
    } else {
      Submit(Phase::kSync, Kind::kFlush, 0, nullptr, 0);
    }
    return;
  }
  const DiskState state = disk().state();
  if (state != DiskState::kServing) {
    LoseKey(state);
    return;
  }
  switch (command_) {
    case Command::kRead:
      BeginRead();
      return;
    case Command::kWrite:
      BeginWrite();
      return;
    case Command::kTrim:
      Submit(Phase::kStore, Kind::kPunch, span_offset_, nullptr, span_bytes_);
      return;
    case Command::kWriteZeroes:
      BeginZeroes();
      return;
    case Command::kFlush:
      return;
  }
}

void Request::Submit(Phase phase, StoreOp::Kind store_kind, uint64_t disk_offset, uint8_t* bytes,
                     uint64_t length) {
  phase_ = phase;
  kind = store_kind;
  offset_bytes = disk().geometry().data_offset_bytes + disk_offset;
  data = bytes;
  StoreOp::length_bytes = length;
  disk().store().Submit(session_.shard().ring(), *this);
}

void Request::OnStoreDone(int32_t result) {
  if (abandoned_) {
    ReleaseLock();
    session_.Free(*this);
    return;
  }
  switch (phase_) {
    case Phase::kFill:
      if (redo_) {
        redo_ = false;
        SetParked(false);
        Begin();
      } else if (result < 0) {
        StoreFailed(result);
      } else {
        OnFilled();
      }
      return;
    case Phase::kStore:
      OnStored(result);
      return;
    case Phase::kSync:
      if (result < 0) {
        StoreFailed(result);
      } else {
        Finish({});
      }
      return;
    default:
      std::abort();
  }
}

void Request::OnFilled() {
  if (command_ == Command::kRead) {
    ReleaseLock();  // what follows works on our own copy
    DecryptRead();
  } else if (command_ == Command::kWriteZeroes) {
    EncryptZeroEdge();
  } else if (!filling_tail_ && tail_partial() && !single_sector()) {
    filling_tail_ = true;
    FillEdge();
  } else {
    EncryptWrite();
  }
}

void Request::OnStored(int32_t result) {
  if (command_ == Command::kWriteZeroes) {
    OnZeroStored(result);
  } else if (command_ == Command::kTrim && result == -EOPNOTSUPP) {
    Stored();  // a hint that the store cannot take
  } else if (result < 0) {
    StoreFailed(result);
  } else {
    Stored();
  }
}

/// All that the command changes is in the store.
void Request::Stored() {
  ReleaseLock();
  if ((flags_ & wire::kFua) != 0) {
    Submit(Phase::kSync, Kind::kFlush, 0, nullptr, 0);
  } else {
    Finish({});
  }
}

void Request::StoreFailed(int32_t result) {
  static constexpr std::array<const char*, 5> kNames = {"read", "write", "flush", "punch", "zero"};
  disk().ReportStoreError(kNames[static_cast<size_t>(kind)], -result);
  Finish(WireErrorFromErrno(-result));
}

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
      return;  // the payload, the lock or the store will wake it
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

void Request::SetParked(bool parked) {
  if (parked_ == parked) return;
  parked_ = parked;
  if (parked) {
    session_.disk().counters().parked.Add(1);
  } else {
    session_.disk().counters().parked.Subtract(1);
  }
}

void Request::ReleaseLock() {
  if (!lock_held_) return;
  lock_held_ = false;
  disk().locks().Release(*this);
}

void Request::Finish(WireError error) {
  SetParked(false);
  ReleaseLock();
  edge_.Reset();
  const bool carries_data = error.code == wire::kOk && command_ == Command::kRead && buffer_;
  if (!carries_data) buffer_.Reset();
  if (error.code == wire::kShutdown) session_.disk().CountRefused();
  done_ns_ = BootTimeNs();
  error_ = error.code;
  BuildReply(error);
  phase_ = Phase::kReply;
  session_.QueueReply(*this);
}

void Request::Clear() {
  SetParked(false);
  buffer_.Reset();
  edge_.Reset();
  phase_ = Phase::kIdle;
}

}  // namespace keyhold

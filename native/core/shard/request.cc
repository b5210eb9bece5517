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
    case wire::kCache:
      return Command::kCache;
    case wire::kBlockStatus:
      return Command::kBlockStatus;
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
      return std::min<uint64_t>(header.length_bytes, wire::kPayloadBytesMax);
    case wire::kWriteZeroes:
      return std::min<uint64_t>(header.length_bytes, kZeroPieceBytes);
    case wire::kBlockStatus:
      return kStatusExtentsMax * sizeof(Extent);
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
  SetSpan();
  payload_got_ = 0;
  cipher_done_ = store_done_ = 0;
  filling_tail_ = filled_ = has_turn_ = away_ = false;
  if (command_ != Command::kRead && command_ != Command::kWrite) PreparePieces();
  holes_ = 0;
  redo_ = refused_ = abandoned_ = recorded_ = false;
  received_ns_ = now_ns;
  phase_ = header.payload_bytes > 0 ? Phase::kPayload : Phase::kReady;
}

void Request::SetSpan() {
  const uint64_t sector = sector_bytes();
  // A request that failed validation may wrap here; it never gets further than its error.
  span_offset_ = offset_bytes_ / sector * sector;
  head_skip_ = static_cast<uint32_t>(offset_bytes_ - span_offset_);
  span_bytes_ = (head_skip_ + length_bytes_ + sector - 1) / sector * sector;
}

/// The whole sectors that are worked on in pieces.
void Request::PreparePieces() {
  zero_step_ = ZeroStep::kMiddle;
  zero_by_range_ = disk().geometry().holes;
  piece_next_ = ZeroBegin();
  pieces_end_ = (offset_bytes_ + length_bytes_) / sector_bytes() * sector_bytes();
  if (command_ == Command::kCache) {
    piece_next_ = span_offset_;
    pieces_end_ = span_offset_ + std::min(span_bytes_, kCacheBytesMax);
  } else if (command_ == Command::kTrim && !zero_by_range_) {
    // Punched sectors of a disk without the hole rule would decrypt to noise, and a client may rely
    // on nothing after TRIM anyway: so the data stays.
    pieces_end_ = 0;
  }
}

bool Request::TakePayloadBuffer() {
  if (command_ == Command::kBlockStatus) return true;
  buffer_ = session_.shard().pool().Take(span_bytes_, session_.disk().owner());
  return static_cast<bool>(buffer_);
}

std::span<uint8_t> Request::payload_rest() {
  if (command_ == Command::kBlockStatus) return std::span(status_payload_).subspan(payload_got_);
  return {buffer_.data() + head_skip_ + payload_got_, length_bytes_ - payload_got_};
}

void Request::Start() {
  switch (command_) {
    case Command::kRead:
      Lock(span_offset_, span_offset_ + span_bytes_, LockKind::kRead);
      return;
    case Command::kWrite:
      Lock(span_offset_ + store_done_, span_offset_ + span_bytes_,
           head_partial() || tail_partial() ? LockKind::kExclusive : LockKind::kWrite);
      return;
    case Command::kTrim:
    case Command::kWriteZeroes:
      NextZeroStep();
      return;
    case Command::kBlockStatus:
      StartStatus();
      return;
    case Command::kFlush:
    case Command::kCache:
      Begin();
      return;
  }
}

/// Begins as soon as the whole sectors of [begin, end) are ours.
void Request::Lock(uint64_t begin, uint64_t end, LockKind lock_kind) {
  const uint64_t sector = sector_bytes();
  phase_ = Phase::kLock;
  if (disk().locks().Acquire(*this, begin / sector, (end - begin) / sector, lock_kind)) {
    lock_held_ = true;
    Begin();
  }
}

/// On the thread that released the lock, which need not be this request's own.
void Request::OnLockGranted() { session_.shard().mailbox().PostNews(*this); }

void Request::OnNews() {
  if (away_) {
    OnBack();
    return;
  }
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
    case Command::kWriteZeroes:
      RunZeroStep();
      return;
    case Command::kCache:
      CacheNext();
      return;
    case Command::kBlockStatus:
      AskExtents();
      return;
    case Command::kFlush:
      return;
  }
}

void Request::Submit(Phase phase, StoreOp::Kind store_kind, uint64_t disk_offset, uint8_t* bytes,
                     uint64_t length) {
  phase_ = phase;
  SetOperation(store_kind, disk_offset, bytes, length);
  // The other commands go on piece by piece, and each piece that finished here would nest deeper.
  if (command_ != Command::kRead && command_ != Command::kWrite) {
    disk().store().Submit(session_.shard().ring(), *this);
    return;
  }
  const std::optional<int32_t> result =
      disk().store().SubmitOrFinish(session_.shard().ring(), *this);
  if (result) OnStoreDone(*result);
}

void Request::SetOperation(StoreOp::Kind store_kind, uint64_t disk_offset, uint8_t* bytes,
                           uint64_t length) {
  kind = store_kind;
  offset_bytes = disk().geometry().data_offset_bytes + disk_offset;
  data = bytes;
  StoreOp::length_bytes = length;
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
      } else if (command_ == Command::kBlockStatus) {
        OnExtents(result);
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
    filled_ = true;
    if (has_turn_ || !WaitForTurn()) DecryptRead();
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
  if (command_ == Command::kWriteZeroes || command_ == Command::kTrim) {
    OnZeroStored(result);
  } else if (command_ == Command::kCache) {
    OnCached(result);
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
  static constexpr std::array<const char*, 7> kNames = {"read", "write", "flush",  "punch",
                                                        "zero", "cache", "extents"};
  disk().ReportStoreError(kNames[static_cast<size_t>(kind)], -result);
  WireError error = WireErrorFromErrno(-result);
  if (kind != Kind::kFlush) {
    // What the store was asked may begin and end outside the request, at the borders of sectors.
    error.offset_bytes =
        std::clamp(offset_bytes + done_bytes() - disk().geometry().data_offset_bytes, offset_bytes_,
                   offset_bytes_ + length_bytes_ - 1);
  }
  Finish(error);
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
  const bool answers = error.code == wire::kOk;
  if (!answers || command_ != Command::kRead) edge_.Reset();
  if (!answers || (command_ != Command::kRead && command_ != Command::kBlockStatus)) {
    buffer_.Reset();
  }
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

// SPDX-License-Identifier: Apache-2.0
// The end of a request: its reply and its place in the counters.
#include <cstring>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard_disk.h"

namespace keyhold {
namespace {

/// Commands that have a row in the counters.
bool Counted(uint16_t type) {
  return type == wire::kRead || type == wire::kWrite || type == wire::kFlush ||
         type == wire::kTrim || type == wire::kWriteZeroes;
}

}  // namespace

void Request::BuildReply(WireError error) {
  uint8_t* to = head_.data();
  reply_payload_ = nullptr;
  reply_payload_bytes_ = 0;
  if (error.code == wire::kOk && type_ == wire::kRead && length_bytes_ > 0) {
    reply_payload_ = buffer_.data() + head_skip_;
    reply_payload_bytes_ = length_bytes_;
  }
  // After structured replies were negotiated a READ is never answered by a simple reply, not even
  // when it fails; other commands may be, and only gain from a chunk when there is a text to carry.
  const bool structured =
      session_.structured_replies() && (type_ == wire::kRead || error.code != wire::kOk);
  if (!structured) {
    to = wire::Store32(to, wire::kSimpleReplyMagic);
    to = wire::Store32(to, error.code);
    to = wire::Store64(to, cookie_);
  } else {
    const size_t text_bytes = std::strlen(error.text);
    to = wire::Store32(to, wire::kStructuredReplyMagic);
    to = wire::Store16(to, wire::kChunkDone);
    if (error.code != wire::kOk) {
      to = wire::Store16(to, wire::kChunkError);
      to = wire::Store64(to, cookie_);
      to = wire::Store32(to, static_cast<uint32_t>(6 + text_bytes));
      to = wire::Store32(to, error.code);
      to = wire::Store16(to, static_cast<uint16_t>(text_bytes));
      std::memcpy(to, error.text, text_bytes);
      to += text_bytes;
    } else if (reply_payload_bytes_ == 0) {
      to = wire::Store16(to, wire::kChunkNone);
      to = wire::Store64(to, cookie_);
      to = wire::Store32(to, 0);
    } else {
      to = wire::Store16(to, wire::kChunkOffsetData);
      to = wire::Store64(to, cookie_);
      to = wire::Store32(to, static_cast<uint32_t>(8 + reply_payload_bytes_));
      to = wire::Store64(to, offset_bytes_);
    }
  }
  head_bytes_ = static_cast<size_t>(to - head_.data());
}

void Request::Unanswer(bool offline) {
  buffer_.Wipe();
  buffer_.Reset();
  reply_payload_ = nullptr;
  reply_payload_bytes_ = 0;
  if (offline) {
    session_.disk().CountRefused();
    error_ = wire::kShutdown;
    BuildReply(kShutdownError);
    return;
  }
  phase_ = Phase::kReady;
  SetParked(true);
}

void Request::Record(bool undo) {
  if (recorded_ != undo || !Counted(type_)) return;
  recorded_ = !undo;
  const uint64_t one = undo ? ~uint64_t{0} : 1;  // adding it subtracts one
  CommandCounters& counters = session_.disk().counters().commands[static_cast<size_t>(command_)];
  if (error_ == wire::kOk) {
    counters.requests_ok.Add(one);
    counters.bytes.Add(one * length_bytes_);
  } else if (error_ == wire::kShutdown) {
    counters.requests_shutdown.Add(one);
  } else {
    counters.requests_error.Add(one);
  }
  const int64_t latency_ns = done_ns_ - received_ns_;
  counters.latency_sum_ns.Add(one * static_cast<uint64_t>(latency_ns));
  counters.latency_buckets[LatencyBucket(latency_ns)].Add(one);
}

}  // namespace keyhold

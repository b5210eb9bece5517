// SPDX-License-Identifier: Apache-2.0
// The end of a request: its reply and its place in the counters.
#include <algorithm>
#include <cstring>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard_disk.h"

namespace keyhold {
namespace {

/// Commands that have a row in the counters.
bool Counted(uint16_t type) {
  return type == wire::kRead || type == wire::kWrite || type == wire::kFlush ||
         type == wire::kTrim || type == wire::kWriteZeroes || type == wire::kCache ||
         type == wire::kBlockStatus;
}

}  // namespace

uint8_t* Request::PutChunkHead(uint8_t* to, wire::ChunkType chunk, uint64_t length,
                               bool done) const {
  const bool extended = session_.extended_headers();
  to = wire::Store32(to, extended ? wire::kExtendedReplyMagic : wire::kStructuredReplyMagic);
  to = wire::Store16(to, done ? wire::kChunkDone : 0);
  to = wire::Store16(to, chunk);
  to = wire::Store64(to, cookie_);
  if (!extended) return wire::Store32(to, static_cast<uint32_t>(length));
  to = wire::Store64(to, offset_bytes_);
  return wire::Store64(to, length);
}

uint8_t* Request::PutErrorChunk(uint8_t* to, const WireError& error) const {
  const size_t text_bytes = std::min(std::strlen(error.text), kErrorTextBytesMax);
  const bool located = error.offset_bytes.has_value();
  to = PutChunkHead(to, located ? wire::kChunkErrorOffset : wire::kChunkError,
                    6 + text_bytes + (located ? 8 : 0), true);
  to = wire::Store32(to, error.code);
  to = wire::Store16(to, static_cast<uint16_t>(text_bytes));
  std::memcpy(to, error.text, text_bytes);
  to += text_bytes;
  return located ? wire::Store64(to, *error.offset_bytes) : to;
}

/// The reply is what lies in `head_` before `head_end`, then `payload`.
void Request::SetReply(const uint8_t* head_end, std::span<uint8_t> payload) {
  const auto head_bytes = static_cast<size_t>(head_end - head_.data());
  head_and_payload_[0] = {head_.data(), head_bytes};
  head_and_payload_[1] = {payload.data(), payload.size()};
  reply_ = std::span(head_and_payload_).first(payload.empty() ? 1 : 2);
  reply_bytes_ = head_bytes + payload.size();
}

void Request::BuildReply(const WireError& error) {
  uint8_t* to = head_.data();
  const bool failed = error.code != wire::kOk;
  const bool reads = !failed && type_ == wire::kRead && length_bytes_ > 0;
  reply_holds_plaintext_ = reads;
  if (!failed && type_ == wire::kBlockStatus) {
    BuildStatusReply();
    return;
  }
  if (reads && holes_ > 0) {
    BuildSparseReply();
    return;
  }
  std::span<uint8_t> payload;
  if (reads) payload = {buffer_.data() + head_skip_, length_bytes_};
  // After structured replies were negotiated a READ is never answered by a simple reply, not even
  // when it fails; other commands may be, and only gain from a chunk when there is a text to carry.
  // With extended headers there are no simple replies.
  const bool chunk = session_.extended_headers() ||
                     (session_.structured_replies() &&
                      (type_ == wire::kRead || type_ == wire::kBlockStatus || failed));
  if (!chunk) {
    to = wire::Store32(to, wire::kSimpleReplyMagic);
    to = wire::Store32(to, error.code);
    to = wire::Store64(to, cookie_);
  } else if (failed) {
    to = PutErrorChunk(to, error);
  } else if (reads) {
    to = PutChunkHead(to, wire::kChunkOffsetData, 8 + length_bytes_, true);
    to = wire::Store64(to, offset_bytes_);
  } else {
    to = PutChunkHead(to, wire::kChunkNone, 0, true);
  }
  SetReply(to, payload);
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

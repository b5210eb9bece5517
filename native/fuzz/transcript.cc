// SPDX-License-Identifier: Apache-2.0
#include "fuzz/transcript.h"

#include <algorithm>

#include "fuzz/require.h"

namespace keyhold::fuzz {
namespace {

constexpr uint64_t kCookieBase = 0xC00C1E00'00000000;  // no cookie that a server would make up
constexpr uint64_t kPayloadBytesMax = 32U << 20;

enum Type : uint16_t { kRead = 0, kWrite = 1, kDisconnect = 2, kBlockStatus = 7 };
enum Flag : uint16_t { kDontFragment = 0x4, kRequestOne = 0x8, kPayloadLength = 0x20 };

template <typename Unsigned>
Unsigned Load(std::span<const uint8_t> from, size_t at) {
  Unsigned value = 0;
  for (size_t i = 0; i < sizeof value; ++i) {
    value = static_cast<Unsigned>((value << 8) | from[at + i]);
  }
  return value;
}

void StoreCookie(std::span<uint8_t> to, uint64_t cookie) {
  for (size_t i = 0; i < 8; ++i) to[i] = static_cast<uint8_t>(cookie >> (56 - 8 * i));
}

/// Errors that may stand on the wire.
bool Known(uint32_t error) {
  for (uint32_t known : {1U, 5U, 12U, 22U, 28U, 75U, 95U, 108U}) {
    if (error == known) return true;
  }
  return false;
}

}  // namespace

Transcript::Transcript(std::span<uint8_t> stream, Agreed agreed) : agreed_(agreed) {
  while (TakeRequest(stream)) {
  }
}

/// False at the end: of the stream, by DISC, or where the server must close.
bool Transcript::TakeRequest(std::span<uint8_t>& rest) {
  const bool extended = agreed_.replies == Replies::kExtended;
  const size_t head_bytes = extended ? 32 : 28;
  if (rest.size() < head_bytes) return false;
  Request request;
  request.flags = Load<uint16_t>(rest, 4);
  request.type = Load<uint16_t>(rest, 6);
  request.offset = Load<uint64_t>(rest, 16);
  request.length = extended ? Load<uint64_t>(rest, 24) : Load<uint32_t>(rest, 24);
  violated_ = Load<uint32_t>(rest, 0) != (extended ? 0x21e41c71U : 0x25609513U);
  if (violated_ || request.type == kDisconnect) return false;
  const bool payload = extended ? (request.flags & kPayloadLength) != 0 : request.type == kWrite;
  violated_ = payload && request.length > kPayloadBytesMax;
  if (violated_) return false;
  StoreCookie(rest.subspan(8), kCookieBase + requests_.size());
  rest = rest.subspan(head_bytes);
  const uint64_t payload_bytes = payload ? request.length : 0;
  request.whole = payload_bytes <= rest.size();
  requests_.push_back(std::move(request));
  if (!requests_.back().whole) return false;
  rest = rest.subspan(payload_bytes);
  return true;
}

void Transcript::Check(std::span<const uint8_t> replies) {
  while (!replies.empty()) {
    if (TakeReply(replies)) continue;
    Require(violated_, "a reply is cut although the client kept to the protocol");
    return;
  }
  for (const Request& request : requests_) {
    if (request.answered || violated_ || !request.whole) continue;
    Require(false, "a request was never answered");
  }
}

bool Transcript::TakeReply(std::span<const uint8_t>& rest) {
  if (rest.size() < 4) return false;
  switch (Load<uint32_t>(rest, 0)) {
    case 0x67446698:
      return TakeSimple(rest);
    case 0x668e33ef:
      Require(agreed_.replies == Replies::kStructured, "a structured reply was not negotiated");
      return TakeChunk(rest, false);
    case 0x6e8a278c:
      Require(agreed_.replies == Replies::kExtended, "an extended reply was not negotiated");
      return TakeChunk(rest, true);
    default:
      Require(false, "a reply has an unknown magic number");
      return false;
  }
}

bool Transcript::TakeSimple(std::span<const uint8_t>& rest) {
  if (rest.size() < 16) return false;
  const auto error = Load<uint32_t>(rest, 4);
  Request& request = Open(Load<uint64_t>(rest, 8));
  Require(agreed_.replies != Replies::kExtended, "a simple reply after extended headers");
  const bool chunk_only = request.type == kRead || request.type == kBlockStatus;
  Require(agreed_.replies == Replies::kSimple || !chunk_only, "a simple reply instead of a chunk");
  Require(request.contents == 0 && !request.failed, "a simple reply after a chunk");
  Require(error == 0 || Known(error), "a simple reply has an unknown error");
  rest = rest.subspan(16);
  const uint64_t data_bytes = request.type == kRead && error == 0 ? request.length : 0;
  if (data_bytes > rest.size()) return false;
  rest = rest.subspan(data_bytes);
  request.answered = true;
  return true;
}

bool Transcript::TakeChunk(std::span<const uint8_t>& rest, bool extended) {
  const size_t head_bytes = extended ? 32 : 20;
  if (rest.size() < head_bytes) return false;
  const auto flags = Load<uint16_t>(rest, 4);
  Request& request = Open(Load<uint64_t>(rest, 8));
  const uint64_t length = extended ? Load<uint64_t>(rest, 24) : Load<uint32_t>(rest, 16);
  Require((flags & ~1) == 0, "a chunk has an unknown flag");
  if (extended) {
    Require(Load<uint64_t>(rest, 16) == request.offset, "a chunk echoes another offset");
  }
  const Chunk chunk{Load<uint16_t>(rest, 6), flags == 1, rest.subspan(head_bytes)};
  if (length > chunk.payload.size()) return false;
  Judge(request, {chunk.type, chunk.done, chunk.payload.first(length)});
  if (chunk.done) Finish(request);
  rest = rest.subspan(head_bytes + length);
  return true;
}

Transcript::Request& Transcript::Open(uint64_t cookie) {
  Require(cookie - kCookieBase < requests_.size(), "a reply has a cookie that nobody sent");
  Request& request = requests_[cookie - kCookieBase];
  Require(!request.answered, "a request was answered twice");
  Require(request.whole, "a request was answered before its payload came");
  return request;
}

void Transcript::Judge(Request& request, const Chunk& chunk) {
  switch (chunk.type) {
    case 0:
      Require(chunk.payload.empty() && chunk.done, "a NONE chunk is not empty or not the last");
      return;
    case 1:
      Require(chunk.payload.size() > 8, "a data chunk has no data");
      Cover(request, Load<uint64_t>(chunk.payload, 0), chunk.payload.size() - 8);
      return;
    case 2:
      Require(chunk.payload.size() == 12, "a hole chunk does not have 12 bytes");
      Require(Load<uint32_t>(chunk.payload, 8) > 0, "a hole chunk is of length 0");
      Cover(request, Load<uint64_t>(chunk.payload, 0), Load<uint32_t>(chunk.payload, 8));
      return;
    case 5:
    case 6:
      JudgeStatus(request, chunk);
      return;
    default:
      JudgeError(request, chunk);
  }
}

void Transcript::Cover(Request& request, uint64_t offset, uint64_t length) {
  Require(request.type == kRead, "a content chunk answers another command than READ");
  Require(offset >= request.offset && length <= request.length &&
              offset - request.offset <= request.length - length,
          "a content chunk lies outside its request");
  auto after = request.covered.lower_bound(offset);
  Require(after == request.covered.end() || after->first >= offset + length,
          "content chunks overlap");
  Require(after == request.covered.begin() || std::prev(after)->second <= offset,
          "content chunks overlap");
  request.covered.emplace(offset, offset + length);
  ++request.contents;
  Require(!(request.flags & kDontFragment) || request.contents == 1, "a DF read is fragmented");
}

void Transcript::JudgeStatus(Request& request, const Chunk& chunk) {
  const bool extended = agreed_.replies == Replies::kExtended;
  Require(chunk.type == (extended ? 6 : 5), "the status chunk is of the other header's kind");
  Require(request.type == kBlockStatus, "a status chunk answers another command");
  Require(agreed_.allocation, "a status chunk although no context was selected");
  const size_t head_bytes = extended ? 8 : 4;
  const size_t extent_bytes = extended ? 16 : 8;
  Require(chunk.payload.size() > head_bytes, "a status chunk has no extent");
  Require(Load<uint32_t>(chunk.payload, 0) == Agreed::kAllocationId, "an unknown context");
  const std::span<const uint8_t> extents = chunk.payload.subspan(head_bytes);
  Require(extents.size() % extent_bytes == 0, "a status chunk does not add up");
  const size_t count = extents.size() / extent_bytes;
  if (extended) Require(Load<uint32_t>(chunk.payload, 4) == count, "a wrong count of extents");
  // With a payload the request's length is the payload's; the effect length stands inside it.
  const bool payload = (request.flags & kPayloadLength) != 0;
  uint64_t sum = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = i * extent_bytes;
    const uint64_t length = extended ? Load<uint64_t>(extents, at) : Load<uint32_t>(extents, at);
    Require(length > 0, "an extent is of length 0");
    Require(payload || sum < request.length, "an extent after the end of the request");
    sum += length;
  }
  if (request.flags & kRequestOne) {
    Require(count == 1 && (payload || sum <= request.length), "REQ_ONE got more than one extent");
  }
  ++request.contents;
  Require(request.contents == 1, "a context was answered twice");
}

void Transcript::JudgeError(Request& request, const Chunk& chunk) {
  Require(chunk.type == 0x8001 || chunk.type == 0x8002, "a chunk has an unknown type");
  const size_t tail_bytes = chunk.type == 0x8002 ? 8 : 0;
  Require(chunk.payload.size() >= 6 + tail_bytes, "an error chunk is too short");
  const size_t text_bytes = Load<uint16_t>(chunk.payload, 4);
  Require(text_bytes <= 4096, "an error text has more than 4096 bytes");
  Require(text_bytes > 0, "an error has no text");
  Require(chunk.payload.size() == 6 + text_bytes + tail_bytes, "an error chunk does not add up");
  Require(Known(Load<uint32_t>(chunk.payload, 0)), "an error chunk has an unknown error");
  request.failed = true;
  if (tail_bytes == 0) {
    Require(!request.plain_error, "two errors without an offset");
    request.plain_error = true;
  } else {
    const auto offset = Load<uint64_t>(chunk.payload, 6 + text_bytes);
    Require(offset >= request.offset && offset - request.offset < request.length,
            "an error's offset lies outside its request");
    request.offset_error = true;
  }
  Require(!request.plain_error || !request.offset_error, "errors with and without offset");
}

void Transcript::Finish(Request& request) {
  request.answered = true;
  if (request.failed) return;
  uint64_t covered = 0;
  for (const auto& [begin, end] : request.covered) covered += end - begin;
  if (request.type == kRead) Require(covered == request.length, "a READ has gaps");
  if (request.type == kBlockStatus && request.length > 0) {
    Require(request.contents == 1, "a BLOCK_STATUS succeeded without a status");
  }
}

}  // namespace keyhold::fuzz

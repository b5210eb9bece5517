// SPDX-License-Identifier: Apache-2.0
// READ answered in several chunks: holes by their length alone. They are found in the ciphertext
// that was read anyway, so this costs no system call, and a read without holes next to nothing.
#include <algorithm>
#include <new>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"
#include "core/xts/cipher.h"

namespace keyhold {
namespace {

struct Hole {
  uint32_t begin;  // bytes in the span
  uint32_t end;
};

/// All that a sparse reply needs besides its data, in one small buffer.
struct SparseReply {
  static constexpr size_t kDataHeadBytes = wire::kExtendedReplyBytes + 8;
  static constexpr size_t kHoleHeadBytes = wire::kExtendedReplyBytes + 8 + 4;
  std::array<Hole, Request::kReplyHolesMax> holes;
  std::array<iovec, Request::kReplyVectorsMax> vectors;
  std::array<uint8_t, (Request::kReplyHolesMax + 1) * kDataHeadBytes +
                          Request::kReplyHolesMax * kHoleHeadBytes>
      heads;
};
static_assert(sizeof(SparseReply) <= BufferPool::kBufferBytesMin);
static_assert(std::is_trivially_destructible_v<SparseReply>);

SparseReply& In(const Buffer& buffer) { return *reinterpret_cast<SparseReply*>(buffer.data()); }

}  // namespace

bool Request::MayHaveHoles() const {
  return session_.structured_replies() && (flags_ & wire::kDontFragment) == 0 &&
         disk().geometry().holes && length_bytes_ >= kHoleChunkBytesMin;
}

bool Request::EnsureSparseReply() {
  if (edge_) return true;
  if (!EnsureEdgeBuffer(sizeof(SparseReply))) return false;
  new (edge_.data()) SparseReply;
  return true;
}

/// Looks for runs of zero ciphertext before anything is decrypted. Without memory they are sent as
/// what they are, zeros. Runs on a cipher thread, too, and then takes none.
void Request::FindHoles() {
  holes_ = 0;
  if (!MayHaveHoles()) return;
  const uint32_t sector = sector_bytes();
  const uint8_t* const span = buffer_.data();
  const uint64_t request_end = head_skip_ + length_bytes_;
  for (uint64_t at = 0; at < span_bytes_ && holes_ < kReplyHolesMax; at += sector) {
    if (!xts::AllZero(span + at, sector)) continue;
    const uint64_t begin = std::max<uint64_t>(at, head_skip_);
    while (at + sector < span_bytes_ && xts::AllZero(span + at + sector, sector)) at += sector;
    const uint64_t end = std::min(at + sector, request_end);
    if (end - begin < kHoleChunkBytesMin) continue;
    if (!EnsureSparseReply()) return;
    In(edge_).holes[holes_++] = {static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
  }
}

void Request::BuildSparseReply() {
  SparseReply& reply = In(edge_);
  const uint64_t end = head_skip_ + length_bytes_;
  uint64_t at = head_skip_;
  uint8_t* to = reply.heads.data();
  uint8_t* head = to;  // where heads begin that are in no vector yet
  size_t vectors = 0;
  auto send = [&](uint8_t* bytes, uint64_t length) {
    reply.vectors[vectors++] = {bytes, length};
    reply_bytes_ += length;
  };
  auto put_data = [&](uint64_t until) {
    if (at == until) return;
    to = PutChunkHead(to, wire::kChunkOffsetData, 8 + (until - at), until == end);
    to = wire::Store64(to, span_offset_ + at);
    send(head, static_cast<uint64_t>(to - head));
    send(buffer_.data() + at, until - at);
    head = to;
    at = until;
  };
  reply_bytes_ = 0;
  for (size_t i = 0; i < holes_; ++i) {
    const Hole& hole = reply.holes[i];
    put_data(hole.begin);
    to = PutChunkHead(to, wire::kChunkOffsetHole, 8 + 4, hole.end == end);
    to = wire::Store64(to, span_offset_ + hole.begin);
    to = wire::Store32(to, hole.end - hole.begin);
    at = hole.end;
  }
  put_data(end);
  if (to != head) send(head, static_cast<uint64_t>(to - head));
  reply_ = std::span(reply.vectors).first(vectors);
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
// BLOCK_STATUS: base:allocation from the holes of the store. A hole of the store is zero ciphertext
// and so a hole of the disk (DESIGN.md section 4), without any map and without the key. Sectors of
// zero ciphertext that are allocated are told as data, which is always allowed.
#include <algorithm>
#include <cerrno>

#include "core/shard/request.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {
namespace {

/// Longest extent where lengths have 32 bits, a multiple of every block size (CVE-2025-47711 and
/// -47712 came from lengths that were rounded up at 4 GiB).
constexpr uint64_t kCompactExtentBytesMax = (uint64_t{1} << 32) - 64 * 1024;

}  // namespace

/// With a payload that holds range and context in place of the header.
void Request::StartStatus() {
  if ((flags_ & wire::kPayloadLength) != 0) {
    length_bytes_ = wire::Load64(status_payload_.data());
    WireError error =
        ValidateStatusContext(wire::Load32(status_payload_.data() + 8), session_.agreed());
    if (error.code == wire::kOk) {
      error = ValidateStatus(offset_bytes_, length_bytes_, disk().geometry());
    }
    if (error.code != wire::kOk) {
      length_bytes_ = 0;
      Finish(error);
      return;
    }
    SetSpan();
  }
  Begin();
}

void Request::AskExtents() {
  buffer_ =
      session_.shard().pool().Take(kStatusExtentsMax * sizeof(Extent), session_.disk().owner());
  if (!buffer_) {
    Finish(kNoMemoryError);
    return;
  }
  if (!disk().geometry().holes) {
    // Zero bytes in the store are data like any other: nothing is known of what they decrypt to.
    OnExtents(-EOPNOTSUPP);
    return;
  }
  const size_t room = (flags_ & wire::kRequestOne) != 0 ? 1 : kStatusExtentsMax;
  extents_.room = {reinterpret_cast<Extent*>(buffer_.data()), room};
  extents_.granularity_bytes = sector_bytes();
  StoreOp::extents = &extents_;
  Submit(Phase::kFill, Kind::kExtents, span_offset_, nullptr, span_bytes_);
}

/// Cuts what the store said of whole sectors to the request.
void Request::OnExtents(int32_t result) {
  auto* const extent = reinterpret_cast<Extent*>(buffer_.data());
  if (result == -EOPNOTSUPP) {
    extent[0] = {span_bytes_, 0};
    extents_.count = 1;
  } else if (result < 0) {
    StoreFailed(result);
    return;
  }
  const uint64_t extent_bytes_max =
      session_.extended_headers() ? UINT64_MAX : kCompactExtentBytesMax;
  extent[0].length_bytes -= head_skip_;
  uint64_t left = length_bytes_;
  for (size_t i = 0; i < extents_.count; ++i) {
    const uint64_t length = std::min({extent[i].length_bytes, left, extent_bytes_max});
    const bool last = length < extent[i].length_bytes || length == left;
    extent[i].length_bytes = length;
    left -= length;
    if (last) extents_.count = i + 1;
  }
  Finish({});
}

/// The extents are turned into their form on the wire where they lie; that form is never longer.
void Request::BuildStatusReply() {
  const bool extended = session_.extended_headers();
  uint8_t* to = buffer_.data();
  for (size_t i = 0; i < extents_.count; ++i) {
    Extent extent;
    std::copy_n(buffer_.data() + i * sizeof extent, sizeof extent,
                reinterpret_cast<uint8_t*>(&extent));
    const uint32_t flags = extent.hole != 0 ? wire::kExtentHole | wire::kExtentZero : 0U;
    if (extended) {
      to = wire::Store64(to, extent.length_bytes);
      to = wire::Store64(to, flags);
    } else {
      to = wire::Store32(to, static_cast<uint32_t>(extent.length_bytes));
      to = wire::Store32(to, flags);
    }
  }
  const auto extents_bytes = static_cast<size_t>(to - buffer_.data());
  uint8_t* head = head_.data();
  const auto chunk = extended ? wire::kChunkBlockStatusExtended : wire::kChunkBlockStatus;
  head = PutChunkHead(head, chunk, (extended ? 8 : 4) + extents_bytes, true);
  head = wire::Store32(head, session_.agreed().allocation_context_id.value_or(0));
  if (extended) head = wire::Store32(head, static_cast<uint32_t>(extents_.count));
  SetReply(head, {buffer_.data(), extents_bytes});
}

}  // namespace keyhold

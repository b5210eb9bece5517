// SPDX-License-Identifier: Apache-2.0
// Parser and validation alone, without a connection: far more inputs a second than session_fuzz.
// What is let through must be safe for everything behind it, and the error of what is not must be
// the one that the protocol names.
#include <cstring>
#include <span>

#include "core/shard/validate.h"
#include "core/shard/wire.h"
#include "fuzz/require.h"

namespace keyhold::fuzz {
namespace {

enum Error : uint32_t {
  kOk = 0,
  kPerm = 1,
  kInval = 22,
  kNoSpc = 28,
  kOverflow = 75,
  kNotSup = 95
};
constexpr uint64_t kPayloadBytesMax = 32U << 20;

struct Case {
  DiskGeometry geometry;
  bool structured;  // or extended
  bool extended;
  bool context;
  wire::RequestHeader header;
};

bool WriteType(uint16_t type) { return type == 1 || type == 4 || type == 6; }

bool PastEnd(const Case& c) {
  const unsigned __int128 end = static_cast<unsigned __int128>(c.header.offset_bytes) +
                                static_cast<unsigned __int128>(c.header.length_bytes);
  return end > c.geometry.size_bytes;
}

bool FlagsFit(const Case& c) {
  const unsigned payload = c.extended ? 0x20U : 0U;
  const unsigned rest = c.header.flags & ~0x1U;
  switch (c.header.type) {
    case 0:
      return (rest & ~(c.structured ? 0x4U : 0U)) == 0;
    case 1:
      return (rest & ~payload) == 0 && rest == payload;
    case 6:
      return (rest & ~0x12U) == 0;
    case 7:
      return (rest & ~(0x8U | payload)) == 0;
    default:
      return rest == 0;
  }
}

/// Whether the request covers a whole sector that can become a hole.
bool PunchesASector(const Case& c) {
  if (!c.geometry.holes) return false;
  const uint64_t sector = c.geometry.sector_size_bytes;
  const uint64_t into = c.header.offset_bytes % sector;
  return c.header.length_bytes >= sector + (into == 0 ? 0 : sector - into);
}

/// The protocol's table, in the order in which a request can be wrong in several ways.
uint32_t Expected(const Case& c) {
  const uint16_t type = c.header.type;
  if (type > 7 || type == 2 || !FlagsFit(c)) return kInval;
  if (type == 3) return c.header.offset_bytes == 0 && c.header.length_bytes == 0 ? kOk : kInval;
  if (type == 7) {
    if (!c.structured || !c.context) return kInval;
    if ((c.header.flags & 0x20) != 0) return c.header.length_bytes == 12 ? kOk : kInval;
    if (c.header.length_bytes == 0) return kInval;
  }
  if (c.geometry.read_only && WriteType(type)) return kPerm;
  if (PastEnd(c)) return type == 1 || type == 6 ? kNoSpc : kInval;
  if (type == 0 && c.header.length_bytes > kPayloadBytesMax) {
    return c.structured ? kOverflow : kInval;
  }
  if (type == 6 && (c.header.flags & 0x10) != 0 && c.header.length_bytes > 0 &&
      !PunchesASector(c)) {
    return kNotSup;
  }
  return kOk;
}

}  // namespace

void RunInput(std::span<const uint8_t> input) {
  if (input.size() < 9) return;
  Case c;
  c.extended = (input[0] & 4) != 0;
  c.structured = (input[0] & 1) != 0 || c.extended;
  c.context = (input[0] & 8) != 0;
  if (input.size() < 9 + (c.extended ? wire::kExtendedRequestBytes : wire::kRequestBytes)) return;
  c.geometry.read_only = (input[0] & 2) != 0;
  c.geometry.holes = (input[0] & 16) == 0;
  c.geometry.sector_size_bytes = (input[0] & 32) != 0 ? 4096 : 512;
  c.geometry.size_bytes = wire::Load64(input.data() + 1) & INT64_MAX;
  c.header = c.extended ? wire::ParseExtendedRequest(input.data() + 9)
                        : wire::ParseRequest(input.data() + 9);
  if (c.header.type == wire::kDisconnect) return;
  wire::Agreed agreed;
  if (c.structured) agreed.replies = wire::Replies::kStructured;
  if (c.extended) agreed.replies = wire::Replies::kExtended;
  if (c.context) agreed.allocation_context_id = 1;
  const WireError error = ValidateRequest(c.header, c.geometry, agreed);
  Require(error.code == Expected(c), "the error is the protocol's");
  Require((error.code == kOk) == (*error.text == '\0'), "an error has a text, success has none");
  Require(std::strlen(error.text) <= kErrorTextBytesMax, "the text fits the head of a reply");
}

}  // namespace keyhold::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keyhold::fuzz::RunInput({data, size});
  return 0;
}

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

enum Error : uint32_t { kOk = 0, kPerm = 1, kInval = 22, kNoSpc = 28, kOverflow = 75 };
constexpr uint64_t kPayloadBytesMax = 32U << 20;

struct Case {
  DiskGeometry geometry;
  bool structured;
  wire::RequestHeader header;
};

bool WriteType(uint16_t type) { return type == 1 || type == 4 || type == 6; }

bool PastEnd(const Case& c) {
  const unsigned __int128 end = static_cast<unsigned __int128>(c.header.offset_bytes) +
                                static_cast<unsigned __int128>(c.header.length_bytes);
  return end > c.geometry.size_bytes;
}

bool FlagsFit(const Case& c) {
  const uint16_t rest = c.header.flags & ~0x1U;
  if (c.header.type == 0) return (rest & ~(c.structured ? 0x4U : 0U)) == 0;
  if (c.header.type == 6) return (rest & ~0x2U) == 0;
  return rest == 0;
}

/// The protocol's table, in the order in which a request can be wrong in several ways.
uint32_t Expected(const Case& c) {
  const uint16_t type = c.header.type;
  if (type > 6 || type == 2 || type == 5 || !FlagsFit(c)) return kInval;
  if (type == 3) return c.header.offset_bytes == 0 && c.header.length_bytes == 0 ? kOk : kInval;
  if (c.geometry.read_only && WriteType(type)) return kPerm;
  if (PastEnd(c)) return type == 1 || type == 6 ? kNoSpc : kInval;
  if (type == 0 && c.header.length_bytes > kPayloadBytesMax) {
    return c.structured ? kOverflow : kInval;
  }
  return kOk;
}

}  // namespace

void RunInput(std::span<const uint8_t> input) {
  if (input.size() < 9 + wire::kRequestBytes) return;
  Case c;
  c.structured = (input[0] & 1) != 0;
  c.geometry.read_only = (input[0] & 2) != 0;
  c.geometry.size_bytes = wire::Load64(input.data() + 1) & INT64_MAX;
  c.header = wire::ParseRequest(input.data() + 9);
  if (c.header.type == wire::kDisconnect) return;
  const WireError error = ValidateRequest(c.header, c.geometry, c.structured);
  Require(error.code == Expected(c), "the error is the protocol's");
  Require((error.code == kOk) == (*error.text == '\0'), "an error has a text, success has none");
  Require(std::strlen(error.text) <= 90, "the text fits the head of a reply");
}

}  // namespace keyhold::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keyhold::fuzz::RunInput({data, size});
  return 0;
}

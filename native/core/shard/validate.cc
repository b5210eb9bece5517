// SPDX-License-Identifier: Apache-2.0
#include "core/shard/validate.h"

#include <cerrno>

namespace keyhold {
namespace {

/// Flags that a command may carry. FUA is accepted on every command because SEND_FUA is advertised;
/// FAST_ZERO is not advertised, so it is unknown here.
uint16_t AllowedFlags(uint16_t type, bool structured_replies) {
  switch (type) {
    case wire::kRead:
      return static_cast<uint16_t>(wire::kFua | (structured_replies ? wire::kDontFragment : 0));
    case wire::kWriteZeroes:
      return wire::kFua | wire::kNoHole;
    default:
      return wire::kFua;
  }
}

WireError ValidateRange(const wire::RequestHeader& header, const DiskGeometry& geometry) {
  // Never an addition: offset and length are the client's and could wrap.
  if (header.offset_bytes <= geometry.size_bytes &&
      header.length_bytes <= geometry.size_bytes - header.offset_bytes) {
    return {};
  }
  if (header.type == wire::kWrite || header.type == wire::kWriteZeroes) {
    return {wire::kNoSpc, "the request goes past the end of the disk"};
  }
  return {wire::kInval, "the request goes past the end of the disk"};
}

}  // namespace

WireError ValidateRequest(const wire::RequestHeader& header, const DiskGeometry& geometry,
                          bool structured_replies) {
  switch (header.type) {
    case wire::kRead:
    case wire::kWrite:
    case wire::kFlush:
    case wire::kTrim:
    case wire::kWriteZeroes:
      break;
    default:
      return {wire::kInval, "the command is not supported"};
  }
  if ((header.flags & ~AllowedFlags(header.type, structured_replies)) != 0) {
    return {wire::kInval, "the command carries a flag that it does not take"};
  }
  if (header.type == wire::kFlush) {
    if (header.offset_bytes == 0 && header.length_bytes == 0) return {};
    return {wire::kInval, "flush takes neither an offset nor a length"};
  }
  if (geometry.read_only && header.type != wire::kRead) {
    return {wire::kPerm, "the disk is read-only"};
  }
  WireError range = ValidateRange(header, geometry);
  if (range.code != wire::kOk) return range;
  if (header.type == wire::kRead && header.length_bytes > wire::kPayloadBytesMax) {
    return {structured_replies ? wire::kOverflow : wire::kInval, "a read may have at most 32 MiB"};
  }
  return {};
}

WireError WireErrorFromErrno(int errno_value) {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return {wire::kNoSpc, "the store has no space left"};
    case EROFS:
    case EPERM:
      return {wire::kPerm, "the store refuses to be written"};
    default:
      return {wire::kIo, "the store failed"};
  }
}

}  // namespace keyhold

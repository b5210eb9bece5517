// SPDX-License-Identifier: Apache-2.0
#include "core/shard/validate.h"

#include <cerrno>

namespace keyhold {
namespace {

using wire::Replies;

bool Known(uint16_t type) {
  return type == wire::kRead || type == wire::kWrite || type == wire::kFlush ||
         type == wire::kTrim || type == wire::kCache || type == wire::kWriteZeroes ||
         type == wire::kBlockStatus;
}

bool Writes(uint16_t type) {
  return type == wire::kWrite || type == wire::kTrim || type == wire::kWriteZeroes;
}

/// Flags that a command may carry. FUA is accepted on every command because SEND_FUA is advertised.
uint16_t AllowedFlags(uint16_t type, const wire::Agreed& agreed) {
  uint16_t flags = wire::kFua;
  const bool extended = agreed.replies == Replies::kExtended;
  switch (type) {
    case wire::kRead:
      if (agreed.replies != Replies::kSimple) flags |= wire::kDontFragment;
      break;
    case wire::kWrite:
      if (extended) flags |= wire::kPayloadLength;
      break;
    case wire::kWriteZeroes:
      flags |= wire::kNoHole | wire::kFastZero;
      break;
    case wire::kBlockStatus:
      flags |= wire::kRequestOne;
      if (extended) flags |= wire::kPayloadLength;
      break;
    default:
      break;
  }
  return flags;
}

WireError ValidatePayload(const wire::RequestHeader& header, const wire::Agreed& agreed) {
  if (header.type == wire::kWrite) {
    if (agreed.replies == Replies::kExtended && (header.flags & wire::kPayloadLength) == 0) {
      return {wire::kInval, "a write with an extended header needs the payload flag"};
    }
  } else if (header.type == wire::kBlockStatus) {
    if (!agreed.allocation_context_id || agreed.replies == Replies::kSimple) {
      return {wire::kInval, "no metadata context was negotiated"};
    }
    if ((header.flags & wire::kPayloadLength) != 0 && header.payload_bytes != kStatusPayloadBytes) {
      return {wire::kInval, "the payload must be a length and the id of one known context"};
    }
  }
  return {};
}

WireError ValidateRange(uint64_t offset_bytes, uint64_t length_bytes, uint16_t type,
                        const DiskGeometry& geometry) {
  // Never an addition: offset and length are the client's and could wrap.
  if (offset_bytes <= geometry.size_bytes && length_bytes <= geometry.size_bytes - offset_bytes) {
    return {};
  }
  if (type == wire::kWrite || type == wire::kWriteZeroes) {
    return {wire::kNoSpc, "the request goes past the end of the disk"};
  }
  return {wire::kInval, "the request goes past the end of the disk"};
}

/// Zeroing is faster than writing where at least one whole sector becomes a hole. Without the hole
/// rule zeros are encrypted and written like any data; and a partial sector is read, changed and
/// written as a WRITE would do it.
bool CanZeroFast(const wire::RequestHeader& header, const DiskGeometry& geometry) {
  const uint64_t sector = geometry.sector_size_bytes;
  const uint64_t first = (header.offset_bytes + sector - 1) / sector;
  const uint64_t last = (header.offset_bytes + header.length_bytes) / sector;
  return geometry.holes && first < last;
}

}  // namespace

WireError ValidateRequest(const wire::RequestHeader& header, const DiskGeometry& geometry,
                          const wire::Agreed& agreed) {
  if (!Known(header.type)) return {wire::kInval, "the command is not supported"};
  if ((header.flags & ~AllowedFlags(header.type, agreed)) != 0) {
    return {wire::kInval, "the command carries a flag that it does not take"};
  }
  WireError payload = ValidatePayload(header, agreed);
  if (payload.code != wire::kOk) return payload;
  if (header.type == wire::kFlush) {
    if (header.offset_bytes == 0 && header.length_bytes == 0) return {};
    return {wire::kInval, "flush takes neither an offset nor a length"};
  }
  if (geometry.read_only && Writes(header.type)) return {wire::kPerm, "the disk is read-only"};
  if (header.type == wire::kBlockStatus) {
    if (header.payload_bytes > 0) return {};
    return ValidateStatus(header.offset_bytes, header.length_bytes, geometry);
  }
  WireError range = ValidateRange(header.offset_bytes, header.length_bytes, header.type, geometry);
  if (range.code != wire::kOk) return range;
  if (header.type == wire::kRead && header.length_bytes > wire::kPayloadBytesMax) {
    const bool simple = agreed.replies == Replies::kSimple;
    return {simple ? wire::kInval : wire::kOverflow, "a read may have at most 32 MiB"};
  }
  if ((header.flags & wire::kFastZero) != 0 && header.length_bytes > 0 &&
      !CanZeroFast(header, geometry)) {
    return kNotFastError;
  }
  return {};
}

WireError ValidateStatus(uint64_t offset_bytes, uint64_t length_bytes,
                         const DiskGeometry& geometry) {
  if (length_bytes == 0) return {wire::kInval, "a status of no bytes has no extent"};
  return ValidateRange(offset_bytes, length_bytes, wire::kBlockStatus, geometry);
}

WireError ValidateStatusContext(uint32_t context_id, const wire::Agreed& agreed) {
  if (context_id == agreed.allocation_context_id) return {};
  return {wire::kInval, "the payload names a metadata context that was not negotiated"};
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

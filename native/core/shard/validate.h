// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/disk/disk.h"
#include "core/shard/wire.h"

namespace keyhold {

/// An error for the wire, with a text for the person behind the client. `code` 0 is success.
struct WireError {
  uint32_t code = wire::kOk;
  const char* text = "";  // at most kErrorTextBytesMax
  /// Where in the disk it happened, if that is known.
  std::optional<uint64_t> offset_bytes = {};
};
inline constexpr size_t kErrorTextBytesMax = 80;

/// A BLOCK_STATUS that names contexts: a 64-bit effect length and one id, since there is but one
/// context. Two ids are a duplicate or unknown, whatever they are.
inline constexpr size_t kStatusPayloadBytes = 12;

/// Checks a request against the protocol, the disk, and what was negotiated (reference/nbd.md 1.5,
/// 1.9). Everything after relies on it: a request that passes lies inside the disk and has flags
/// that fit; one with a payload is a WRITE, or a BLOCK_STATUS with kStatusPayloadBytes, whose range
/// is left to ValidateStatus. A payload longer than kPayloadBytesMax is not for this function: it
/// ends the connection.
WireError ValidateRequest(const wire::RequestHeader& header, const DiskGeometry& geometry,
                          const wire::Agreed& agreed);

/// The range of a BLOCK_STATUS, and the context that its payload names.
WireError ValidateStatus(uint64_t offset_bytes, uint64_t length_bytes,
                         const DiskGeometry& geometry);
WireError ValidateStatusContext(uint32_t context_id, const wire::Agreed& agreed);

/// The one map from a store's errno to the protocol.
WireError WireErrorFromErrno(int errno_value);

/// What every request gets while the disk is offline.
inline constexpr WireError kShutdownError{wire::kShutdown, "the disk is offline"};
inline constexpr WireError kNoMemoryError{wire::kNoMem,
                                          "the server has no memory for this request"};
/// FAST_ZERO where zeroing would be no faster than writing.
inline constexpr WireError kNotFastError{wire::kNotSup,
                                         "zeroing this range is not faster than writing it"};

}  // namespace keyhold

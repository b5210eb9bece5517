// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/disk/disk.h"
#include "core/shard/wire.h"

namespace keyhold {

/// An error for the wire, with a text for the person behind the client. `code` 0 is success.
struct WireError {
  uint32_t code = wire::kOk;
  const char* text = "";
};

/// Checks a request against the protocol and the disk (reference/nbd.md 1.5). Everything after
/// relies on it: a request that passes is READ, WRITE, FLUSH, TRIM or WRITE_ZEROES inside the disk,
/// with flags that fit. A WRITE longer than kPayloadBytesMax is not for this function: it ends the
/// connection.
WireError ValidateRequest(const wire::RequestHeader& header, const DiskGeometry& geometry,
                          bool structured_replies);

/// The one map from a store's errno to the protocol.
WireError WireErrorFromErrno(int errno_value);

/// What every request gets while the disk is offline.
inline constexpr WireError kShutdownError{wire::kShutdown, "the disk is offline"};
inline constexpr WireError kNoMemoryError{wire::kNoMem,
                                          "the server has no memory for this request"};

}  // namespace keyhold

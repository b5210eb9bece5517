// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace keyhold {

/// Gives `length_bytes` from `offset_bytes` of the file or block device `path` back to what stores
/// them, and makes that durable: a hole in a file (its size stays), BLKDISCARD on a device. False
/// where file system or device cannot, and nothing has changed then. kInvalidArgument for an empty
/// range, one beyond 2^63-1, or a path that is neither; kSystem with the path.
///
/// Erases nothing by itself: a device may still hold what was discarded. Overwrite first.
Result<bool> DiscardRange(const std::string& path, uint64_t offset_bytes, uint64_t length_bytes);

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/store/store.h"

namespace keyhold {

/// Seeks of one scan. Each takes the file system about a microsecond, and the shard that scans does
/// nothing else meanwhile; so this also bounds how long one request of one client holds up others.
/// (io_uring cannot seek. While the file is being punched a seek may wait for that call, which is
/// why punching goes by pieces too.)
inline constexpr int kExtentSeeksMax = 512;

/// Fills `list` by SEEK_DATA and SEEK_HOLE on a regular file, from `offset_bytes` on and for at
/// most `length_bytes` (> 0). What a write changes meanwhile may be told either way. 0; -EOPNOTSUPP
/// when the file cannot seek so (a block device); -EIO when the file ends inside the range: what
/// lies past the end is no hole, it is lost; else -errno.
int32_t ScanExtents(int fd, uint64_t offset_bytes, uint64_t length_bytes, ExtentList& list);

}  // namespace keyhold

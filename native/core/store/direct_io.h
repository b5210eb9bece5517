// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace keyhold {

/// What a disk asks of O_DIRECT, which moves data between device and our buffers past the page
/// cache. Every transfer of a disk is a run of its sectors somewhere after its data offset, in
/// page-aligned memory or whole sectors further on: so these two numbers say how transfers lie.
struct DirectIo {
  /// Refuse a store that cannot do it. Otherwise a block device does it if it can, a file never.
  bool required = false;
  uint32_t sector_size_bytes = 512;
  uint64_t data_offset_bytes = 0;
};

/// Makes reads and writes of `fd` (open, of `path`) direct. Returns what their places must be
/// multiples of. kStoreDirect, and nothing changed: this disk's transfers do not fit the
/// device's alignment (the message has both), or its file system knows no O_DIRECT.
Result<uint32_t> EnableDirectIo(int fd, const std::string& path, const DirectIo& direct);

}  // namespace keyhold

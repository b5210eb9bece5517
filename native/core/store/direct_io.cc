// SPDX-License-Identifier: Apache-2.0
#include "core/store/direct_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace keyhold {
namespace {

/// Where neither file system nor device can say: what every one of them takes.
constexpr uint32_t kAlignmentBytesDefault = 4096;

/// Of places in the store and in memory alike; 0 when there is no direct I/O.
uint32_t AlignmentOf(int fd) {
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0) {
    if (status.stx_dio_offset_align == 0) return 0;
    return std::max(status.stx_dio_offset_align, status.stx_dio_mem_align);
  }
  int sector_bytes = 0;  // before Linux 6.1, and file systems such as tmpfs
  if (::ioctl(fd, BLKSSZGET, &sector_bytes) == 0) return static_cast<uint32_t>(sector_bytes);
  return kAlignmentBytesDefault;
}

Error Refuse(const std::string& path, const std::string& why) {
  return Error{ErrorCode::kStoreDirect, 0, "open store " + path + " for direct i/o: " + why};
}

}  // namespace

Result<uint32_t> EnableDirectIo(int fd, const std::string& path, const DirectIo& direct) {
  const uint32_t alignment = AlignmentOf(fd);
  if (alignment == 0) return Refuse(path, "its file system offers none");
  const auto misfit = [&](const char* what, uint64_t bytes) {
    return Refuse(path, std::string("the disk's ") + what + " is " + std::to_string(bytes) +
                            ", expected a multiple of the store's alignment, " +
                            std::to_string(alignment) + " bytes");
  };
  if (direct.sector_size_bytes % alignment != 0) {
    return misfit("sector size", direct.sector_size_bytes);
  }
  if (direct.data_offset_bytes % alignment != 0) {
    return misfit("data offset", direct.data_offset_bytes);
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) {
    return Refuse(path, std::strerror(errno));
  }
  return alignment;
}

}  // namespace keyhold

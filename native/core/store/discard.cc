// SPDX-License-Identifier: Apache-2.0
#include "core/store/discard.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/io/unique_fd.h"

namespace keyhold {
namespace {

int PunchFile(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
  int result = 0;
  do {
    result = ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(offset_bytes), static_cast<off_t>(length_bytes));
  } while (result != 0 && errno == EINTR);
  return result;
}

int DiscardDevice(int fd, uint64_t offset_bytes, uint64_t length_bytes) {
  uint64_t range[2] = {offset_bytes, length_bytes};
  return ::ioctl(fd, BLKDISCARD, range);
}

}  // namespace

Result<bool> DiscardRange(const std::string& path, uint64_t offset_bytes, uint64_t length_bytes) {
  const std::string operation = "discard " + std::to_string(length_bytes) + " bytes at " +
                                std::to_string(offset_bytes) + " of " + path;
  const auto failed = [&] {
    return Error{ErrorCode::kSystem, errno, operation + ": " + strerrordesc_np(errno)};
  };
  constexpr uint64_t kBytesMax = INT64_MAX;  // what a file offset can say
  if (length_bytes == 0 || offset_bytes > kBytesMax || length_bytes > kBytesMax - offset_bytes) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 operation + ": expected 1 byte or more, and an end below 2^63"};
  }
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return failed();
  const bool device = S_ISBLK(status.st_mode);
  if (!device && !S_ISREG(status.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 operation + ": it is neither a regular file nor a block device"};
  }
  const int result = device ? DiscardDevice(fd.get(), offset_bytes, length_bytes)
                            : PunchFile(fd.get(), offset_bytes, length_bytes);
  if (result != 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENOTTY)) return false;
  if (result != 0) return failed();
  if (::fsync(fd.get()) != 0) return failed();
  return true;
}

}  // namespace keyhold

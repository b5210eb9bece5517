// SPDX-License-Identifier: Apache-2.0
#include "core/keys/key_file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "core/io/unique_fd.h"

namespace keyhold {
namespace {

Error SystemError(const std::string& operation, int error) {
  return Error{ErrorCode::kSystem, error, operation + ": " + strerrordesc_np(error)};
}

Status WriteAll(const std::string& operation, int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(operation, errno);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return Ok();
}

Status SyncDirectoryOf(const std::string& operation, const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) {
    return SystemError(operation + ": sync " + directory, errno);
  }
  return Ok();
}

Status Fill(const std::string& operation, const std::string& path, int fd,
            std::span<const uint8_t> key) {
  // The process's umask may have taken what the owner needs.
  if (::fchmod(fd, S_IRUSR | S_IWUSR) != 0) return SystemError(operation, errno);
  if (const Status written = WriteAll(operation, fd, key); !written) return written;
  if (::fsync(fd) != 0) return SystemError(operation, errno);
  return SyncDirectoryOf(operation, path);
}

}  // namespace

Status WriteNewKeyFile(const std::string& operation, const std::string& path,
                       std::span<const uint8_t> key) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                           S_IRUSR | S_IWUSR));
  if (fd.get() < 0) return SystemError(operation, errno);
  const Status filled = Fill(operation, path, fd.get(), key);
  if (!filled) ::unlink(path.c_str());
  return filled;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/tls/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/io/unique_fd.h"

namespace keyhold {
namespace {

Error SystemError(const std::string& operation) {
  const int error = errno;
  return {ErrorCode::kSystem, error, operation + ": " + std::strerror(error)};
}

std::string Octal(mode_t mode) {
  char text[8];
  std::snprintf(text, sizeof text, "%04o", mode & 07777U);
  return text;
}

Status CheckPrivate(const std::string& name, const struct stat& facts) {
  constexpr mode_t kOthers = 0007;
  constexpr mode_t kGroup = 0070;
  const bool ours = facts.st_uid == ::geteuid();
  const mode_t forbidden = ours ? kOthers | kGroup : kOthers;
  if ((facts.st_mode & forbidden) == 0) return Ok();
  return Error{ErrorCode::kInvalidArgument, 0,
               name + ": its mode is " + Octal(facts.st_mode) +
                   " and others may read it, expected " + Octal(facts.st_mode & ~forbidden) +
                   " (chmod " + (ours ? "go-rwx" : "o-rwx") + ")"};
}

}  // namespace

Result<TlsFile> TlsFile::Read(const char* what, const std::string& path, bool secret) {
  const std::string name = std::string(what) + " " + path;
  // Non-blocking: opening a FIFO must not hang the daemon.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat facts {};
  if (fd.get() < 0 || ::fstat(fd.get(), &facts) != 0) return SystemError("open " + name);
  if (!S_ISREG(facts.st_mode) || facts.st_size < 1 ||
      facts.st_size > static_cast<off_t>(kTlsFileBytesMax)) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 name + ": expected a regular file of 1 to " + std::to_string(kTlsFileBytesMax) +
                     " bytes, found " + std::to_string(facts.st_size) +
                     (S_ISREG(facts.st_mode) ? " bytes" : " bytes and another kind of file")};
  }
  if (secret) {
    Status is_private = CheckPrivate(name, facts);
    if (!is_private) return is_private.error();
  }
  Result<SecretBuffer> bytes = SecretBuffer::Allocate(static_cast<size_t>(facts.st_size));
  if (!bytes) return bytes.error();
  size_t done = 0;
  while (done < bytes.value().size_bytes()) {
    const ssize_t got = ::pread(fd.get(), bytes.value().bytes().data() + done,
                                bytes.value().size_bytes() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("read " + name);
    if (got == 0) {
      return Error{ErrorCode::kInvalidArgument, 0,
                   "read " + name + ": " + std::to_string(done) + " of " +
                       std::to_string(bytes.value().size_bytes()) + " bytes; it is being replaced"};
    }
    done += static_cast<size_t>(got);
  }
  TlsFile file;
  file.bytes_ = bytes.Take();
  return file;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/base/process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace keyhold {
namespace {

Error SystemError(const std::string& operation) {
  const int error = errno;
  return Error{ErrorCode::kSystem, error, operation + ": " + strerrordesc_np(error)};
}

}  // namespace

Result<PeerCredentials> ReadPeerCredentials(int socket_fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return SystemError("read the peer credentials of fd " + std::to_string(socket_fd));
  }
  // A socket without a unix peer answers with pid 0 and the overflow ids: no identity to trust.
  if (credentials.pid == 0) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "read the peer credentials of fd " + std::to_string(socket_fd) +
                     ": not a connected unix socket"};
  }
  return PeerCredentials{credentials.uid, credentials.gid, credentials.pid};
}

Status ForbidCoreDumps() {
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return SystemError("set RLIMIT_CORE to 0");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return SystemError("set PR_SET_DUMPABLE to 0");
  return Ok();
}

Result<Pipe> CreatePipe() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) return SystemError("create a pipe");
  return Pipe{ends[0], ends[1]};
}

Status CloseFd(int fd) {
  // Linux releases the descriptor even when close reports EINTR: a second close could hit
  // another's.
  if (close(fd) != 0 && errno != EINTR) return SystemError("close fd " + std::to_string(fd));
  return Ok();
}

}  // namespace keyhold

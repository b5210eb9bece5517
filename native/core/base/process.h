// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include "core/base/result.h"

namespace keyhold {

/// Who is at the other end of a unix socket, as the kernel noted it when the connection was made.
struct PeerCredentials {
  uid_t uid;
  gid_t gid;
  pid_t pid;
};
Result<PeerCredentials> ReadPeerCredentials(int socket_fd);

/// RLIMIT_CORE 0 and PR_SET_DUMPABLE 0: no core file, and no ptrace by the same user. Secret memory
/// is not dumped anyway; this covers plaintext on its way through ordinary buffers.
Status ForbidCoreDumps();

struct Pipe {
  int read_fd;
  int write_fd;
};
/// Both ends O_CLOEXEC; the caller owns them.
Result<Pipe> CreatePipe();

Status CloseFd(int fd);

}  // namespace keyhold

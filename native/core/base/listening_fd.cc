// SPDX-License-Identifier: Apache-2.0
#include "core/base/listening_fd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace keyhold {
namespace {

Error Refuse(int fd, const std::string& found) {
  return Error{
      ErrorCode::kInvalidArgument, 0,
      "take over fd " + std::to_string(fd) + ": expected a listening stream socket, got " + found};
}

Error SystemError(int fd, const char* call) {
  const int error = errno;
  return Error{ErrorCode::kSystem, error,
               "take over fd " + std::to_string(fd) + ": " + call + ": " + std::strerror(error)};
}

const char* KindOfFile(mode_t mode) {
  if (S_ISREG(mode)) return "a regular file";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISBLK(mode)) return "a block device";
  return "something that is no socket";
}

std::string KindOfSocket(int type) {
  if (type == SOCK_DGRAM) return "a datagram socket";
  if (type == SOCK_SEQPACKET) return "a sequential-packet socket";
  return "a socket of type " + std::to_string(type);
}

Result<int> Option(int fd, int name, const char* what) {
  int value = 0;
  socklen_t bytes = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, name, &value, &bytes) != 0) return SystemError(fd, what);
  return value;
}

std::string UnixPath(const sockaddr_un& address, socklen_t bytes) {
  const size_t head = offsetof(sockaddr_un, sun_path);
  if (bytes <= head) return {};
  const size_t length = std::min<size_t>(bytes - head, sizeof address.sun_path);
  const bool abstract = address.sun_path[0] == '\0';
  std::string path(address.sun_path, abstract ? length : ::strnlen(address.sun_path, length));
  if (abstract) path[0] = '@';
  return path;
}

Result<ListeningAddress> ReadAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0) {
    return SystemError(fd, "getsockname");
  }
  ListeningAddress address;
  char text[INET6_ADDRSTRLEN] = "";
  if (storage.ss_family == AF_UNIX) {
    address.is_unix = true;
    address.path = UnixPath(reinterpret_cast<const sockaddr_un&>(storage), bytes);
  } else if (storage.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
    address.host = ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    address.port = ntohs(v4.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
    address.host = ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    address.port = ntohs(v6.sin6_port);
  } else {
    return Refuse(fd, "a socket of address family " + std::to_string(storage.ss_family));
  }
  return address;
}

}  // namespace

Result<ListeningAddress> InspectListeningFd(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    if (errno == EBADF) return Refuse(fd, "a descriptor that is not open");
    return SystemError(fd, "fstat");
  }
  if (!S_ISSOCK(status.st_mode)) return Refuse(fd, KindOfFile(status.st_mode));
  const Result<int> type = Option(fd, SO_TYPE, "SO_TYPE");
  if (!type) return type.error();
  if (type.value() != SOCK_STREAM) return Refuse(fd, KindOfSocket(type.value()));
  const Result<int> listens = Option(fd, SO_ACCEPTCONN, "SO_ACCEPTCONN");
  if (!listens) return listens.error();
  if (listens.value() == 0) return Refuse(fd, "a stream socket that does not listen");
  return ReadAddress(fd);
}

Result<ListeningAddress> ClaimListeningFd(int fd) {
  Result<ListeningAddress> address = InspectListeningFd(fd);
  if (!address) return address;
  const int flags = ::fcntl(fd, F_GETFL);
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return SystemError(fd, "FD_CLOEXEC");
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return SystemError(fd, "O_NONBLOCK");
  }
  return address;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/base/notify.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace keyhold {
namespace {

Error SystemError(const std::string& socket_path, const char* call) {
  const int error = errno;
  return Error{
      ErrorCode::kSystem, error,
      "notify the service manager at " + socket_path + ": " + call + ": " + strerrordesc_np(error)};
}

Error Refuse(const std::string& socket_path, const std::string& expected) {
  return Error{ErrorCode::kInvalidArgument, 0,
               "notify the service manager at \"" + socket_path + "\": expected " + expected};
}

struct Address {
  sockaddr_un bytes{};
  socklen_t length = 0;
};

Result<Address> ParseAddress(const std::string& socket_path) {
  if (socket_path.size() < 2 || (socket_path[0] != '/' && socket_path[0] != '@')) {
    return Refuse(socket_path, "a path that begins with / or @");
  }
  Address address;
  // A path needs its terminating zero, an abstract name has none.
  const size_t length_max =
      sizeof address.bytes.sun_path - (socket_path[0] == '/' ? size_t{1} : size_t{0});
  if (socket_path.size() > length_max) {
    return Refuse(socket_path, "at most " + std::to_string(length_max) + " bytes, got " +
                                   std::to_string(socket_path.size()));
  }
  address.bytes.sun_family = AF_UNIX;
  std::memcpy(address.bytes.sun_path, socket_path.data(), socket_path.size());
  if (socket_path[0] == '@') address.bytes.sun_path[0] = '\0';
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_path.size());
  return address;
}

Status SendOver(int socket, const Address& address, const std::string& socket_path,
                std::string_view state) {
  const timeval wait{0, kNotifyWaitNsMax / 1000};
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0) {
    return SystemError(socket_path, "set SO_SNDTIMEO");
  }
  const auto* to = reinterpret_cast<const sockaddr*>(&address.bytes);
  ssize_t sent = -1;
  do {
    sent = ::sendto(socket, state.data(), state.size(), MSG_NOSIGNAL, to, address.length);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return SystemError(socket_path, "send");
  return Ok();
}

}  // namespace

Status NotifyServiceManager(const std::string& socket_path, std::string_view state) {
  const Result<Address> address = ParseAddress(socket_path);
  if (!address) return address.error();
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return SystemError(socket_path, "make a socket");
  const Status sent = SendOver(socket, address.value(), socket_path, state);
  ::close(socket);
  return sent;
}

}  // namespace keyhold

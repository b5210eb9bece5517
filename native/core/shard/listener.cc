// SPDX-License-Identifier: Apache-2.0
#include "core/shard/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "core/base/listening_fd.h"
#include "core/shard/plane.h"
#include "core/shard/shard.h"

namespace keyhold {
namespace {

constexpr int kBacklog = 128;

Error SystemError(const std::string& what, int errno_value) {
  return Error{ErrorCode::kSystem, errno_value, what + ": " + std::strerror(errno_value)};
}

/// Removes a socket file that a dead server left. Ok when nothing stands in the way any more.
Status RemoveStaleSocket(const std::string& path, const sockaddr_un& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return Ok();
    return SystemError("listen on " + path, errno);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "listen on " + path + ": a file that is no socket has this name"};
  }
  UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return SystemError("listen on " + path, errno);
  const int result =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  // EAGAIN: a server whose backlog is full lives too.
  if (result == 0 || errno == EAGAIN) {
    return Error{ErrorCode::kState, EADDRINUSE,
                 "listen on " + path + ": another server answers there"};
  }
  if (errno != ECONNREFUSED && errno != ENOENT) return SystemError("listen on " + path, errno);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return SystemError("remove the stale socket " + path, errno);
  }
  return Ok();
}

Result<sockaddr_storage> ParseAddress(const std::string& host, uint16_t port) {
  sockaddr_storage storage{};
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  const std::string literal = host == "localhost" ? "127.0.0.1" : host;
  if (::inet_pton(AF_INET, literal.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return storage;
  }
  if (::inet_pton(AF_INET6, literal.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return storage;
  }
  return Error{ErrorCode::kInvalidArgument, 0,
               "listen on tcp host \"" + host + "\": it is neither an IP address nor localhost"};
}

socklen_t AddressBytes(const sockaddr_storage& address) {
  return address.ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

uint16_t PortOf(const sockaddr_storage& address) {
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                   : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

}  // namespace

void ListeningSocket::Shut() {
  if (std::exchange(shut_, true) || adopted) return;
  if (socket) ::shutdown(socket.get(), SHUT_RDWR);
  struct stat status {};
  if (!unix_path.empty() && ::lstat(unix_path.c_str(), &status) == 0 &&
      status.st_ino == unix_inode) {
    ::unlink(unix_path.c_str());
  }
}

Result<std::shared_ptr<ListeningSocket>> OpenUnixListener(const std::string& path, uint32_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "listen on " + path + ": the path has " + std::to_string(path.size()) +
                     " bytes, a unix socket takes 1 to " +
                     std::to_string(sizeof address.sun_path - 1)};
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Status stale = RemoveStaleSocket(path, address);
  if (!stale) return stale.error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return SystemError("listen on " + path, errno);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return SystemError("bind " + path, errno);
  }
  struct stat status {};
  // Nobody can connect before listen, so the file's first mode does no harm.
  if (::chmod(path.c_str(), mode) != 0 || ::lstat(path.c_str(), &status) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    const int errno_value = errno;
    ::unlink(path.c_str());
    return SystemError("listen on " + path, errno_value);
  }
  auto listener = std::make_shared<ListeningSocket>();
  listener->socket = std::move(socket);
  listener->unix_path = path;
  listener->unix_inode = status.st_ino;
  return listener;
}

Result<std::shared_ptr<ListeningSocket>> OpenTcpListener(const std::string& host, uint16_t port) {
  Result<sockaddr_storage> address = ParseAddress(host, port);
  if (!address) return address.error();
  const std::string what = "listen on tcp " + host + " port " + std::to_string(port);
  UniqueFd socket(::socket(address.value().ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return SystemError(what, errno);
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t bytes = AddressBytes(address.value());
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address.value()), bytes) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return SystemError(what, errno);
  }
  bytes = sizeof(sockaddr_storage);
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address.value()), &bytes) != 0) {
    return SystemError(what, errno);
  }
  auto listener = std::make_shared<ListeningSocket>();
  listener->socket = std::move(socket);
  listener->tcp = true;
  listener->port = PortOf(address.value());
  return listener;
}

Result<std::shared_ptr<ListeningSocket>> AdoptListener(int fd) {
  const Result<ListeningAddress> address = ClaimListeningFd(fd);
  if (!address) return address.error();
  auto listener = std::make_shared<ListeningSocket>();
  listener->socket = UniqueFd(fd);
  listener->tcp = !address.value().is_unix;
  listener->port = address.value().port;
  listener->adopted = true;
  return listener;
}

Acceptor::Acceptor(Shard& shard, Plane& plane, std::shared_ptr<ListeningSocket> listener)
    : shard_(shard), plane_(plane), listener_(std::move(listener)) {}

void Acceptor::Begin() { shard_.ring().Accept(accept_op_, listener_->socket.get()); }

void Acceptor::Stop() {
  stopped_ = true;
  shard_.ring().Cancel(accept_op_);
}

void Acceptor::Tick() {
  if (std::exchange(waiting_, false) && !stopped_) Begin();
}

/// Gives an accepted connection to the plane, which closes it if nobody can take it: also when this
/// shard ends just now, or the client would wait for an answer for ever.
void Acceptor::Hand(int32_t result) {
  if (result < 0) return;
  UniqueFd socket(result);
  const int on = 1;
  if (listener_->tcp) {
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  if (!stopped_) plane_.Welcome(std::move(socket), *listener_);
}

void Acceptor::OnAccepted(int32_t result) {
  if (result >= 0) {
    Hand(result);
  } else if (result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM) {
    waiting_ = true;  // at once it would only fail again, and keep the shard busy
    return;
  } else if (result == -EINVAL || result == -EBADF || result == -ECANCELED) {
    stopped_ = stopped_ || result != -ECANCELED;  // the socket was shut
    if (stopped_) return;
  }
  if (!stopped_) Begin();
}

}  // namespace keyhold

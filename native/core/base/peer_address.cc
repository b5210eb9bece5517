// SPDX-License-Identifier: Apache-2.0
#include "core/base/peer_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace keyhold {
namespace {

constexpr size_t kMappedPrefixBytes = 12;  // of ::ffff:a.b.c.d; the IPv4 address follows

std::optional<PeerAddress> UnixPeer(int socket) {
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) return {};
  PeerAddress peer;
  peer.kind = PeerAddress::Kind::kUnix;
  peer.pid = credentials.pid;
  peer.uid = credentials.uid;
  peer.gid = credentials.gid;
  return peer;
}

}  // namespace

std::string PeerKey(const PeerAddress& peer) {
  if (peer.kind == PeerAddress::Kind::kUnix) return "uid " + std::to_string(peer.uid);
  in6_addr address{};
  if (::inet_pton(AF_INET6, peer.address.c_str(), &address) != 1) return peer.address;
  constexpr size_t kNetworkBytes = 8;
  return std::string(reinterpret_cast<const char*>(&address), kNetworkBytes);
}

std::optional<PeerAddress> ReadPeerAddress(int socket) {
  sockaddr_storage storage{};
  socklen_t bytes = sizeof storage;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&storage), &bytes) != 0) return {};
  if (storage.ss_family == AF_UNIX) return UnixPeer(socket);
  if (storage.ss_family != AF_INET && storage.ss_family != AF_INET6) return {};
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(storage);
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(storage);
  const bool is_v6 = storage.ss_family == AF_INET6;
  const bool mapped = is_v6 && IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) != 0;
  const void* address = &v4.sin_addr;
  if (is_v6) address = &v6.sin6_addr;
  if (mapped) address = v6.sin6_addr.s6_addr + kMappedPrefixBytes;
  char text[INET6_ADDRSTRLEN] = "";
  if (::inet_ntop(is_v6 && !mapped ? AF_INET6 : AF_INET, address, text, sizeof text) == nullptr) {
    return {};
  }
  PeerAddress peer;
  peer.kind = PeerAddress::Kind::kTcp;
  peer.address = text;
  peer.port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
  return peer;
}

}  // namespace keyhold

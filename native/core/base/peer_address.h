// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace keyhold {

/// Where a connection comes from, as the kernel says it: PeerAddress of src/nbd/peer.ts.
struct PeerAddress {
  enum class Kind : uint8_t { kUnix, kTcp };
  Kind kind = Kind::kUnix;
  // kUnix: who called connect(). The pid is 0 when that process lives in a pid namespace that this
  // one does not see.
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  // kTcp. An IPv4 address that reached an IPv6 socket (::ffff:a.b.c.d) is shown as IPv4: it is one
  // and the same client, and must meet the same rules.
  std::string address;
  uint16_t port = 0;
};

/// Who counts as one peer for limits: a uid, an IPv4 address, or the /64 of an IPv6 address, since
/// whoever has one address of it has 2^64. Ports and processes are cheap to have many of.
std::string PeerKey(const PeerAddress& peer);

/// Of a connected unix or TCP socket. Nothing when the client is gone already, or the socket is of
/// another family: whom nobody can name cannot be let in.
std::optional<PeerAddress> ReadPeerAddress(int socket);

}  // namespace keyhold

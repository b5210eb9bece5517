// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace keyhold {

/// What a listening socket that somebody else bound is bound to.
struct ListeningAddress {
  bool is_unix = false;
  std::string path;  // unix; `@name` in the abstract namespace
  std::string host;  // TCP: an IPv4 or IPv6 literal
  uint16_t port = 0;
};

/// Looks at a descriptor that the process inherited. kInvalidArgument, which names the descriptor
/// and what it is, unless it is a listening stream socket of a unix, IPv4 or IPv6 address.
Result<ListeningAddress> InspectListeningFd(int fd);

/// InspectListeningFd, then O_CLOEXEC on, so that no child inherits it, and O_NONBLOCK off, since
/// the ring itself waits (a non-blocking one would be answered EAGAIN at once, again and again).
Result<ListeningAddress> ClaimListeningFd(int fd);

}  // namespace keyhold

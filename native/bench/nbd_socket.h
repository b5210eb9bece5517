// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "core/io/unique_fd.h"
#include "core/shard/wire.h"

// What the programs of the benchmarks share, servers and clients: blocking sockets, and the numbers
// of the handshake, which the daemon has in TypeScript.

namespace keyhold::bench {

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;
inline constexpr uint64_t kOptionReplyMagic = 0x3e889045565a9;
inline constexpr uint16_t kFixedNewstyleNoZeroes = 0x3;
inline constexpr size_t kGreetingBytes = 18;
inline constexpr size_t kOptionBytes = 16;
inline constexpr size_t kOptionReplyBytes = 20;

enum Option : uint32_t { kAbort = 2, kInfo = 6, kGo = 7, kStructuredReply = 8 };
enum OptionReply : uint32_t { kAck = 1, kInfoReply = 3, kUnsupported = 0x80000001 };

inline bool ReadExactly(int fd, std::span<uint8_t> into) {
  while (!into.empty()) {
    const ssize_t got = ::read(fd, into.data(), into.size());
    if (got <= 0) return false;
    into = into.subspan(static_cast<size_t>(got));
  }
  return true;
}

inline bool WriteExactly(int fd, std::span<const uint8_t> from) {
  while (!from.empty()) {
    const ssize_t put = ::write(fd, from.data(), from.size());
    if (put <= 0) return false;
    from = from.subspan(static_cast<size_t>(put));
  }
  return true;
}

inline std::optional<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    std::fprintf(stderr, "unix socket: expected a path of at most %zu bytes, got %zu\n",
                 sizeof address.sun_path - 1, path.size());
    return std::nullopt;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

inline UniqueFd ConnectUnix(const std::string& path) {
  const std::optional<sockaddr_un> address = UnixAddress(path);
  if (!address) return {};
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto* generic = reinterpret_cast<const sockaddr*>(&*address);
  if (!socket || ::connect(socket.get(), generic, sizeof *address) != 0) {
    std::perror(("connect to " + path).c_str());
    return {};
  }
  return socket;
}

/// Writes a compact request to `to`; returns where the next one, or its payload, goes.
inline uint8_t* StoreRequest(uint8_t* to, uint16_t type, uint64_t cookie, uint64_t offset_bytes,
                             uint32_t length_bytes) {
  uint8_t* at = wire::Store32(to, wire::kRequestMagic);
  at = wire::Store16(at, 0);
  at = wire::Store16(at, type);
  at = wire::Store64(at, cookie);
  at = wire::Store64(at, offset_bytes);
  return wire::Store32(at, length_bytes);
}

}  // namespace keyhold::bench

// SPDX-License-Identifier: Apache-2.0
// How connections come to the plane, and how many it takes.
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "core/shard/plane.h"

namespace keyhold {

/// Why no further connection of this peer is taken; empty when it is.
std::string Plane::WhyRefused(const std::string& peer_key) const {
  if (connections_.size() >= kConnectionsMax) {
    return std::to_string(kConnectionsMax) + " connections are open, the most there may be";
  }
  uint32_t of_peer = 0;
  for (const auto& [id, record] : connections_) of_peer += record->peer_key == peer_key ? 1 : 0;
  if (of_peer < kConnectionsPerPeerMax) return {};
  return "its peer has " + std::to_string(of_peer) + " connections open, the most one may have";
}

/// Gives a connection to the least loaded shard; its id.
Result<uint32_t> Plane::Admit(UniqueFd socket, uint32_t listener_id, PeerAddress peer) {
  auto record = std::make_shared<ConnectionRecord>();
  record->listener_id = listener_id;
  record->peer_key = PeerKey(peer);
  record->peer = std::move(peer);
  record->connected_ns = BootTimeNs();
  std::lock_guard lock(mutex_);
  if (stopped_) return Error{ErrorCode::kClosed, 0, "the data plane is stopped"};
  std::string refusal = WhyRefused(record->peer_key);
  if (!refusal.empty()) return Error{ErrorCode::kState, 0, std::move(refusal)};
  const int shard = LeastLoaded();
  if (shard < 0) return Error{ErrorCode::kClosed, 0, "no shard is running"};
  Slot& slot = *slots_[static_cast<size_t>(shard)];
  record->id = next_connection_id_++;
  record->shard = static_cast<uint32_t>(shard);
  connections_[record->id] = record;
  slot.connections.fetch_add(1);
  if (!slot.mailbox.Post(AdoptConnection{std::move(socket), record})) {
    connections_.erase(record->id);
    slot.connections.fetch_sub(1);
    return Error{ErrorCode::kClosed, 0, "the shard is ending"};
  }
  return record->id;
}

void Plane::Welcome(UniqueFd socket, const ListeningSocket& listener) {
  std::optional<PeerAddress> peer = ReadPeerAddress(socket.get());
  if (!peer) return;
  Result<uint32_t> admitted = Admit(std::move(socket), listener.id, *peer);
  if (admitted || admitted.error().code != ErrorCode::kState) return;
  {
    const int64_t now_ns = BootTimeNs();
    std::lock_guard lock(mutex_);
    if (now_ns - refusal_told_ns_ < kRefusalEventNs) return;
    refusal_told_ns_ = now_ns;
  }
  Emit(ConnectionRefused{listener.id, std::move(*peer), admitted.error().message});
}

Result<uint32_t> Plane::TakeConnection(int fd, std::span<const uint8_t> greeting) {
  const std::string what = "take over the connection of fd " + std::to_string(fd);
  const auto fail = [&](const char* step) {
    const int error = errno;
    return Error{ErrorCode::kSystem, error, what + ": " + step + ": " + std::strerror(error)};
  };
  std::optional<PeerAddress> peer = ReadPeerAddress(fd);
  if (!peer) return Error{ErrorCode::kInvalidArgument, 0, what + ": it is no connected socket"};
  UniqueFd socket(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!socket) return fail("dup");
  // The ring itself waits; on a non-blocking socket it would be answered EAGAIN at once.
  const int flags = ::fcntl(socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return fail("fcntl");
  const ssize_t sent =
      ::send(socket.get(), greeting.data(), greeting.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return fail("send");
  if (static_cast<size_t>(sent) != greeting.size()) {
    return Error{ErrorCode::kState, 0,
                 what + ": of " + std::to_string(greeting.size()) + " bytes of greeting only " +
                     std::to_string(sent) + " fit into its buffer"};
  }
  Result<uint32_t> admitted = Admit(std::move(socket), kNoListener, std::move(*peer));
  if (admitted) return admitted;
  return Error{admitted.error().code, 0, what + ": " + admitted.error().message};
}

uint64_t Plane::buffer_bytes() const {
  uint64_t bytes = 0;
  for (const std::unique_ptr<Slot>& slot : slots_) bytes += slot->buffer_bytes.Get();
  return bytes;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/peer_address.h"
#include "core/tls/facts.h"

namespace keyhold {

/// A connection was accepted; it waits for Plane::Respond.
struct NegotiationOpen {
  uint32_t connection_id;
  uint32_t listener_id;
  PeerAddress peer;
};
/// Bytes of a connection in option negotiation; it waits for Plane::Respond.
struct NegotiationData {
  uint32_t connection_id;
  std::vector<uint8_t> data;
};
/// A connection was closed before anything was read from it. At most one a second.
struct ConnectionRefused {
  uint32_t listener_id;
  PeerAddress peer;
  std::string cause;
};
/// The TLS handshake that NextStep::kStartTls began is done; it waits for Plane::Respond.
struct NegotiationTls {
  uint32_t connection_id;
  TlsFacts tls;
};
/// The connection is gone. `disk_id` is 0 when it was still in negotiation.
struct ConnectionClosed {
  uint32_t connection_id;
  uint32_t disk_id;
  std::string cause;
};
struct TransmissionStarted {
  uint32_t connection_id;
  uint32_t disk_id;
};
/// The data plane itself found the lease ended and wiped the key; the disk is suspended.
struct LeaseEnded {
  uint32_t disk_id;
  int64_t key_wiped_ns;
};
/// At most one a second and disk.
struct StoreFailed {
  uint32_t disk_id;
  std::string operation;
  int errno_value;
};
/// The store is a block device that was not opened for direct I/O.
struct StoreBuffered {
  uint32_t disk_id;
  std::string reason;
};
struct ShardDied {
  uint32_t index;
  std::string message;
};

/// What the data plane tells the control plane. Negotiation is strict ping-pong, so at most one
/// negotiation event per connection is unanswered; the rest are rare.
using Event = std::variant<ConnectionRefused, NegotiationOpen, NegotiationData, NegotiationTls,
                           ConnectionClosed, TransmissionStarted, LeaseEnded, StoreFailed,
                           StoreBuffered, ShardDied>;

/// Called from any thread; must not block and must not call back into the disk that it tells of.
using EventSink = std::function<void(Event)>;

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "core/base/peer_address.h"
#include "core/disk/disk_counters.h"
#include "core/disk/disk_order.h"
#include "core/io/unique_fd.h"
#include "core/shard/wire.h"
#include "core/tls/context.h"
#include "core/tls/facts.h"

namespace keyhold {

struct ListeningSocket;

/// What the whole plane knows of a connection. The fields after `connected_ns` are written by its
/// shard and read by anyone.
struct ConnectionRecord {
  uint32_t id = 0;
  uint32_t shard = 0;
  uint32_t listener_id = 0;
  PeerAddress peer;
  std::string peer_key;  // PeerKey
  int64_t connected_ns = 0;
  std::atomic<uint32_t> disk_id{0};  // 0 while in negotiation
  std::atomic<uint32_t> in_flight{0};
  // From the first byte of the handshake on, as they pass the socket's protocol: a TLS record
  // counts what is in it.
  Counter bytes_in;
  Counter bytes_out;
  Counter requests;                     // that were taken in transmission, whatever their answer
  std::shared_ptr<const TlsFacts> tls;  // guarded by Plane::mutex_; null in clear
};

/// What a shard does next with a connection in negotiation.
struct NextStep {
  enum class Kind : uint8_t { kRead, kClose, kStartTls, kTransmission };
  Kind kind = Kind::kClose;
  uint32_t disk_id = 0;
  wire::Agreed agreed;
  std::vector<uint8_t> leftover;  // what came after the option that ended negotiation
  uint32_t tls_context_id = 0;    // kStartTls
  /// What Plane::Respond found under that id.
  std::shared_ptr<const TlsContext> tls_context = nullptr;
};

struct AdoptConnection {
  UniqueFd socket;
  std::shared_ptr<ConnectionRecord> record;
};
struct AnswerNegotiation {
  uint32_t connection_id;
  std::vector<uint8_t> send;
  NextStep next;
};
/// In either phase: requests that are under way are dropped as soon as nothing is pending for them.
struct CloseConnection {
  uint32_t connection_id;
};
struct StartAccepting {
  std::shared_ptr<ListeningSocket> listener;
};
struct StopAccepting {
  uint32_t listener_id;
};
struct CarryOutOrder {
  DiskOrder::Share share;
};
struct FlushStore {
  std::unique_ptr<FlushJob> job;
};
struct StopShard {};
/// As if the ring had broken: for tests.
struct FailShard {};
/// As if a call did not return for that long: for tests.
struct StallShard {
  int64_t duration_ns;
};

using Message =
    std::variant<AdoptConnection, AnswerNegotiation, CloseConnection, StartAccepting, StopAccepting,
                 CarryOutOrder, FlushStore, StopShard, FailShard, StallShard>;

}  // namespace keyhold

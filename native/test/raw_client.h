// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "core/io/unique_fd.h"
#include "core/shard/wire.h"

namespace keyhold::test {

using Bytes = std::vector<uint8_t>;

struct StatusExtent {
  uint64_t length = 0;
  uint64_t flags = 0;
  bool operator==(const StatusExtent&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const StatusExtent& extent) {
  return out << extent.length << " with flags " << extent.flags;
}

/// A whole reply, of however many chunks.
struct Reply {
  uint64_t cookie = 0;
  uint32_t error = 0;
  std::string text;
  std::optional<uint64_t> error_offset;
  Bytes data;  // of a READ, holes filled in
  bool structured = false;
  uint16_t chunk = 0;            // type of the last chunk
  std::vector<uint16_t> chunks;  // of each
  uint32_t context_id = 0;
  std::vector<StatusExtent> extents;
};

/// A raw client in transmission, on a blocking socket with a time limit; through TLS if it is given
/// one that has handshaken over the socket. Fails the test when a reply breaks a rule of the
/// protocol that holds for every request.
class Client {
 public:
  Client(UniqueFd socket, wire::Agreed agreed, std::shared_ptr<SSL> tls = nullptr)
      : tls_(std::move(tls)), socket_(std::move(socket)), agreed_(agreed) {}

  void SendRaw(std::span<const uint8_t> bytes);
  /// With extended headers a WRITE gets the flag that says that its payload follows.
  uint64_t SendRequest(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
                       std::span<const uint8_t> payload = {});
  /// Nothing when the server closed the connection.
  std::optional<Reply> Receive();
  /// One request, one reply; fails the test when the connection ends.
  Reply Do(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
           std::span<const uint8_t> payload = {});
  /// BLOCK_STATUS with a payload of an effect length and context ids.
  Reply StatusOf(uint16_t flags, uint64_t offset, uint64_t length, std::vector<uint32_t> ids);
  Bytes Read(uint64_t offset, uint32_t length);
  void Write(uint64_t offset, std::span<const uint8_t> bytes, uint16_t flags = 0);
  /// True if nothing arrives for `ms`.
  bool Silent(int ms);
  bool AtEnd();
  void Close() { socket_.Reset(); }
  int fd() const { return socket_.get(); }
  SSL* tls() const { return tls_.get(); }

 private:
  struct Sent {
    uint16_t type;
    uint64_t offset;
    uint64_t length;
  };
  bool extended() const { return agreed_.replies == wire::Replies::kExtended; }
  bool ReceiveExactly(std::span<uint8_t> into);
  bool ReceiveSimple(Reply& reply, const uint8_t* head);
  /// The rest of a chunk; `*done` tells whether it was the last.
  bool ReceiveChunk(Reply& reply, const uint8_t* head, bool* done);
  static void TakeData(Reply& reply, const Sent& sent, const Bytes& body);
  static void TakeHole(Reply& reply, const Sent& sent, const Bytes& body);
  void TakeStatus(Reply& reply, const Sent& sent, const Bytes& body) const;
  static void TakeError(Reply& reply, const Sent& sent, const Bytes& body);

  std::shared_ptr<SSL> tls_;
  UniqueFd socket_;
  wire::Agreed agreed_;
  uint64_t next_cookie_ = 0x1000;
  std::map<uint64_t, Sent> sent_;  // by cookie
};

}  // namespace keyhold::test

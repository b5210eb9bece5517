// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/io/ring.h"
#include "core/io/unique_fd.h"

namespace keyhold {

class Plane;
class Shard;

/// A socket that accepts. Shared by the plane's list and the shard that accepts on it just now.
struct ListeningSocket {
  uint32_t id = 0;
  UniqueFd socket;
  std::string unix_path;  // empty for TCP
  ino_t unix_inode = 0;   // of the socket file that we made: another one is not ours to remove
  bool tcp = false;
  uint16_t port = 0;
  // Somebody else (the service manager) bound it and may hold it too. Shutting it would end it for
  // them as well, and refuse the clients that are to wait in its queue for the next server.
  bool adopted = false;

  ~ListeningSocket() { Shut(); }
  /// No new connection from here on; the unix socket's file is removed. Of an adopted socket
  /// nothing changes here: the shard's accept is cancelled, and its queue stays. Idempotent.
  void Shut();

 private:
  bool shut_ = false;
};

/// Binds, sets the mode, listens. A socket file that nobody answers on is replaced; kState when a
/// living server answers, kInvalidArgument when the path is too long or is no socket.
Result<std::shared_ptr<ListeningSocket>> OpenUnixListener(const std::string& path, uint32_t mode);
/// `host` is an IP address or "localhost". Port 0 picks one.
Result<std::shared_ptr<ListeningSocket>> OpenTcpListener(const std::string& host, uint16_t port);

/// Takes over a listening socket that the process inherited. On error the descriptor stays the
/// caller's.
Result<std::shared_ptr<ListeningSocket>> AdoptListener(int fd);

/// Accepts on one socket for one shard and hands each connection to the plane.
class Acceptor {
 public:
  Acceptor(Shard& shard, Plane& plane, std::shared_ptr<ListeningSocket> listener);

  uint32_t listener_id() const { return listener_->id; }
  void Begin();
  void Stop();
  /// Accepts again after the process had run out of descriptors.
  void Tick();
  bool finished() const { return stopped_ && !accept_op_.pending(); }

 private:
  class AcceptOp final : public RingOp {
   public:
    explicit AcceptOp(Acceptor& acceptor) : acceptor_(acceptor) {}

   private:
    void OnRingDone(int32_t result) override { acceptor_.OnAccepted(result); }
    void OnRingReaped(int32_t result) override { acceptor_.Hand(result); }
    Acceptor& acceptor_;
  };

  void OnAccepted(int32_t result);
  void Hand(int32_t result);

  Shard& shard_;
  Plane& plane_;
  std::shared_ptr<ListeningSocket> listener_;
  bool stopped_ = false;
  bool waiting_ = false;  // for the next tick
  AcceptOp accept_op_{*this};
};

}  // namespace keyhold

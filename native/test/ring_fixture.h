// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/io/ring.h"
#include "core/io/unique_fd.h"

namespace keyhold::test {

/// Remembers how it ended.
class RecordingOp final : public RingOp {
 public:
  std::optional<int32_t> done;
  std::optional<int32_t> reaped;

 private:
  void OnRingDone(int32_t result) override { done = result; }
  void OnRingReaped(int32_t result) override { reaped = result; }
};

/// Turns the ring until `op` is done; its result.
inline int32_t Await(Ring& ring, RecordingOp& op) {
  op.done.reset();
  while (!op.done) {
    if (!ring.SubmitAndWait()) std::abort();
    ring.Dispatch();
  }
  return *op.done;
}

/// Begins what was collected, though nothing of it may complete.
inline void Turn(Ring& ring) {
  RecordingOp nop;
  ring.Nop(nop);
  (void)Await(ring, nop);
}

struct SocketPair {
  UniqueFd near;
  UniqueFd far;
  SocketPair() {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) std::abort();
    near.Reset(fds[0]);
    far.Reset(fds[1]);
  }
};

inline UniqueFd TemporaryFile() {
  std::string name = "/tmp/keyhold-ring-XXXXXX";
  UniqueFd file(::mkostemp(name.data(), O_CLOEXEC));
  if (!file || ::unlink(name.c_str()) != 0) std::abort();
  return file;
}

inline std::span<uint8_t> BytesOf(std::string& text) {
  return {reinterpret_cast<uint8_t*>(text.data()), text.size()};
}

/// A test of what a Ring promises, by whichever engine.
class EveryRing : public ::testing::TestWithParam<Engine> {
 protected:
  std::unique_ptr<Ring> ring_ = Ring::Create(GetParam()).Take();
  SocketPair sockets_;
  RecordingOp op_;

  int32_t ReceiveText(std::string& into) {
    ring_->Receive(op_, sockets_.near.get(), BytesOf(into));
    return Await(*ring_, op_);
  }
  void SendFromFar(std::string_view text) {
    ASSERT_EQ(::send(sockets_.far.get(), text.data(), text.size(), 0), ssize_t(text.size()));
  }
  /// Fills the socket until it takes no more.
  void FillNear() {
    const std::string junk(4096, 'j');
    while (::send(sockets_.near.get(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) {
    }
  }
};

inline UniqueFd ListenOnLoopback() {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::listen(socket.get(), 8) != 0) std::abort();
  return socket;
}

inline UniqueFd ConnectTo(const UniqueFd& listener) {
  sockaddr_in address{};
  socklen_t bytes = sizeof address;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &bytes);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), bytes) != 0) std::abort();
  return socket;
}

}  // namespace keyhold::test

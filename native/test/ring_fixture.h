// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
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

}  // namespace keyhold::test

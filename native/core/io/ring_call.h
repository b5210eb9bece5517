// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace keyhold {

class RingOp;

/// What an operation asks for and how far it is, for an engine that has to remember it (io_uring
/// keeps it in the kernel). It lies in the operation, so no queue of such calls needs memory or a
/// bound of its own.
struct RingCall {
  enum class Kind : uint8_t {
    kNop,
    kTimeout,
    kReceive,
    kReceiveMessage,
    kSend,
    kSendMessage,
    kAccept,
    kReadEvent,
    kRead,
    kWrite,
    kDataSync,
    kAllocate,
    kAdvise,
  };
  ///   kFresh ─▶ kWaiting (socket or timer) ─▶ kDone
  ///        └──▶ kInPool (file) ──────────────▶ kDone
  enum class State : uint8_t { kFresh, kWaiting, kInPool, kDone };

  Kind kind = Kind::kNop;
  State state = State::kDone;
  int fd = -1;
  int mode = 0;            // of kAllocate and kAdvise
  void* memory = nullptr;  // bytes, or a msghdr
  uint64_t length_bytes = 0;
  uint64_t offset_bytes = 0;
  int64_t due_ns = 0;  // CLOCK_MONOTONIC; of kTimeout
  int32_t result = 0;
  bool queued = false;  // guarded by the mutex of the FilePool that has the call
  RingOp* op = nullptr;
  // Neighbours in the one list that the call is in.
  RingCall* previous = nullptr;
  RingCall* next = nullptr;
};

/// A list of calls in order of arrival. Owns nothing.
class RingCallList {
 public:
  bool empty() const { return first_ == nullptr; }
  RingCall* first() const { return first_; }

  void Add(RingCall& call) {
    call.previous = last_;
    call.next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = &call;
    last_ = &call;
  }
  void Remove(RingCall& call) {
    (call.previous == nullptr ? first_ : call.previous->next) = call.next;
    (call.next == nullptr ? last_ : call.next->previous) = call.previous;
    call.previous = call.next = nullptr;
  }
  /// The oldest call, taken out; null when there is none.
  RingCall* Take() {
    RingCall* call = first_;
    if (call != nullptr) Remove(*call);
    return call;
  }

 private:
  RingCall* first_ = nullptr;
  RingCall* last_ = nullptr;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
// The receiving half of a session.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

void Session::TakePayload() {
  std::span<uint8_t> rest = payload_->payload_rest();
  const size_t bytes = std::min(rest.size(), parse_end_ - parse_begin_);
  std::memcpy(rest.data(), receive_buffer_.data() + parse_begin_, bytes);
  parse_begin_ += bytes;
  payload_->AdvancePayload(bytes);
  if (bytes < rest.size()) {
    payload_->WorkOffPayload();
    return;
  }
  Request* request = payload_;
  payload_ = nullptr;
  request->Start();
}

void Session::DiscardPayload() {
  const size_t bytes = std::min<size_t>(discard_left_, parse_end_ - parse_begin_);
  parse_begin_ += bytes;
  discard_left_ -= static_cast<uint32_t>(bytes);
  if (discard_left_ > 0) return;
  Request* request = discard_;
  discard_ = nullptr;
  request->Fail(discard_error_);
}

/// Takes one request out of the receive buffer. False when that has to wait, or nothing may follow.
bool Session::ParseOne() {
  const uint8_t* const at = receive_buffer_.data() + parse_begin_;
  const wire::RequestHeader header =
      extended_headers() ? wire::ParseExtendedRequest(at) : wire::ParseRequest(at);
  if (header.magic != (extended_headers() ? wire::kExtendedRequestMagic : wire::kRequestMagic)) {
    Close("the client sent a request with a bad magic number");
    return false;
  }
  if (header.type == wire::kDisconnect) {
    draining_ = true;
    cause_ = "the client disconnected";
    progress_ns_ = BootTimeNs();
    shard_.MarkWork(*this);
    return false;
  }
  if (header.payload_bytes > wire::kPayloadBytesMax) {
    Close("the client sent a payload of " + std::to_string(header.payload_bytes) +
          " bytes, at most " + std::to_string(wire::kPayloadBytesMax) + " are taken");
    return false;
  }
  if (!HasRoom(header)) return false;
  parse_begin_ += request_bytes();
  Admit(header);
  return true;
}

bool Session::HasRoom(const wire::RequestHeader& header) {
  const uint64_t cost = Request::CostBytes(header);
  if (in_flight_ > 0 &&
      (in_flight_ >= kInFlightRequestsMax || in_flight_bytes_ + cost > kInFlightBytesMax)) {
    return false;  // Free marks work
  }
  return disk_.Reserve(cost, *this);
}

void Session::Admit(const wire::RequestHeader& header) {
  Request& request = Allocate();
  request.Prepare(header, BootTimeNs());
  ++in_flight_;
  in_flight_bytes_ += request.cost_bytes();
  record_->in_flight.store(in_flight_, std::memory_order_relaxed);
  record_->requests.Add(1);
  ++turn_requests_;
  turn_bytes_ += request.cost_bytes();
  disk_.counters().in_flight.Add(1);

  WireError error = ValidateRequest(header, disk_.disk().geometry(), agreed_);
  // An offline disk has one answer to every command that exists; EINVAL would read like a bug.
  if (header.type <= wire::kBlockStatus && disk_.disk().state() == DiskState::kLocked) {
    error = kShutdownError;
  }
  const bool has_payload = header.payload_bytes > 0;
  if (error.code == wire::kOk && has_payload && !request.TakePayloadBuffer()) {
    error = kNoMemoryError;
  }
  if (error.code == wire::kOk && has_payload) {
    payload_ = &request;
  } else if (has_payload) {
    discard_ = &request;
    discard_left_ = static_cast<uint32_t>(header.payload_bytes);
    discard_error_ = error;
  } else if (error.code != wire::kOk || (header.length_bytes == 0 && header.type != wire::kFlush)) {
    request.Fail(error);  // of length 0: nothing to do, and so a success
  } else {
    request.Start();
  }
}

std::span<uint8_t> Session::MakeReceiveRoom() {
  if (disk_.disk().state() != DiskState::kServing) {
    explicit_bzero(receive_buffer_.data(), parse_begin_);
  }
  // At most a partial header is left: everything else was parsed.
  const size_t left = parse_end_ - parse_begin_;
  std::memmove(receive_buffer_.data(), receive_buffer_.data() + parse_begin_, left);
  parse_begin_ = 0;
  parse_end_ = left;
  return {receive_buffer_.data() + left, kReceiveBufferBytes - left};
}

/// The rest of a payload goes to its request, what comes after it to the receive buffer.
void Session::ArmReceive() {
  if (tls_ != nullptr) {
    ArmReceiveTls();
    return;
  }
  const std::span<uint8_t> room = MakeReceiveRoom();
  if (payload_ == nullptr) {
    shard_.ring().Receive(receive_op_, socket_.get(), room);
    return;
  }
  AimAtPayload(room);
  shard_.ring().ReceiveMessage(receive_op_, socket_.get(), &receive_message_);
}

/// Makes the next receive put a piece of the payload into its place; its last piece together with
/// what comes after it.
void Session::AimAtPayload(std::span<uint8_t> room) {
  std::span<uint8_t> rest = payload_->payload_rest();
  size_t room_bytes = rest.size() < kDirectPayloadBytesMin ? room.size() : request_bytes();
  if (rest.size() > kPayloadPieceBytesMax) {
    rest = rest.first(kPayloadPieceBytesMax);
    room_bytes = 0;
  }
  receive_vectors_ = {iovec{rest.data(), rest.size()}, iovec{room.data(), room_bytes}};
  receive_message_ = {};
  receive_message_.msg_iov = receive_vectors_.data();
  receive_message_.msg_iovlen = receive_vectors_.size();
}

/// The same on this thread. False when nothing is there, or the others shall have their turn.
bool Session::ReceiveNow() {
  if (turn_payload_bytes_ >= kTurnBytesMax) return false;
  AimAtPayload(MakeReceiveRoom());
  const ssize_t got = ::recvmsg(socket_.get(), &receive_message_, MSG_DONTWAIT);
  if (got <= 0) return false;  // if it is more than "not yet", the ring's receive will say so
  turn_payload_bytes_ += static_cast<uint64_t>(got);
  unanswered_bytes_ += static_cast<uint64_t>(got);
  record_->bytes_in.Add(static_cast<uint64_t>(got));
  Received(static_cast<size_t>(got));
  return true;
}

void Session::OnReceived(int32_t result) {
  shard_.MarkWork(*this);
  if (closing_) {
    if (payload_ != nullptr) std::exchange(payload_, nullptr)->Abandon();
    return;
  }
  if (result == 0) {
    EndOfInput(tls_ == nullptr ? "the client left" : "the client left without ending tls");
  } else if (result > 0) {
    record_->bytes_in.Add(static_cast<uint64_t>(result));
    if (tls_ != nullptr) {
      tls_->AddInput(static_cast<size_t>(result));
    } else {
      Received(static_cast<size_t>(result));
    }
  } else if (result != -ECANCELED && result != -EINTR && result != -EAGAIN) {
    Close(std::string("receive: ") + std::strerror(-result));
    return;
  }
  if (receive_dirty_) WipeReceiveBuffer();
}

/// Requests that are under way are finished; a half-closed client still gets its replies.
void Session::EndOfInput(const char* cause) {
  draining_ = true;
  cause_ = cause;
  progress_ns_ = BootTimeNs();
  if (payload_ != nullptr) Free(*std::exchange(payload_, nullptr));
  if (discard_ != nullptr) Free(*std::exchange(discard_, nullptr));
}

void Session::Received(size_t bytes) {
  if (payload_ != nullptr) {
    const size_t direct = std::min(bytes, payload_->payload_rest().size());
    payload_->AdvancePayload(direct);
    bytes -= direct;
  }
  parse_end_ += bytes;
}

/// Keeps what is not parsed yet: it belongs to requests that are still to be parked or refused.
void Session::WipeReceiveBuffer() {
  receive_buffer_.WipeOutside(parse_begin_, parse_end_);
  receive_dirty_ = false;
  if (tls_ != nullptr) tls_->WipeIdle();
  if (offline_ && payload_ != nullptr) {
    discard_ = std::exchange(payload_, nullptr);
    discard_left_ = static_cast<uint32_t>(discard_->payload_rest().size());
    discard_error_ = kShutdownError;
    discard_->AbandonPayload();
  } else if (payload_ != nullptr) {
    payload_->Quiesce(false);
  }
}

}  // namespace keyhold

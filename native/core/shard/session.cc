// SPDX-License-Identifier: Apache-2.0
#include "core/shard/session.h"

#include <algorithm>

#include "core/shard/plane.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {
namespace {

/// TCP sizes its buffers itself. Beyond the system's limit (net.core.wmem_max) only with
/// CAP_NET_ADMIN.
void GrowSocketBuffer(int socket) {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0 || domain != AF_UNIX) {
    return;
  }
  const int bytes = Session::kSocketSendBytes;
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) != 0) {
    ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

}  // namespace

Session::Session(Shard& shard, ShardDisk& disk, std::shared_ptr<ConnectionRecord> record,
                 UniqueFd socket, wire::Agreed agreed)
    : Connection(shard, std::move(record), std::move(socket)),
      disk_(disk),
      agreed_(agreed),
      receive_op_(this, &Session::OnReceived),
      send_op_(this, &Session::OnSent) {
  disk_.AddSession(*this);
}

Session::~Session() { disk_.RemoveSession(*this); }

bool Session::Begin(std::span<const uint8_t> leftover) {
  receive_buffer_ = shard_.pool().Take(kReceiveBufferBytes, disk_.owner());
  if (!receive_buffer_ || leftover.size() > kReceiveBufferBytes) {
    Close("no memory for the session");
    return false;
  }
  std::copy(leftover.begin(), leftover.end(), receive_buffer_.data());
  parse_end_ = leftover.size();
  if (tls_ != nullptr && !BeginTls()) return false;
  GrowSocketBuffer(socket_.get());
  shard_.MarkWork(*this);
  return true;
}

void Session::Work() {
  turn_requests_ = 0;
  turn_bytes_ = 0;
  turn_payload_bytes_ = 0;
  const bool wants_more = Pump();
  if (draining_ && !closing_ && in_flight_ == 0 && FlushedTls()) Close(cause_);
  // In this order: the kernel works off what it is given one by one, and the client waits for the
  // replies.
  StartSend();
  if (wants_more && !closing_) ArmReceive();
}

/// Parses what has arrived as far as the bounds allow. True when more has to be received.
bool Session::Pump() {
  while (!draining_ && !closing_ && !receive_op_.pending()) {
    if (quiescing_ || disk_.disk().state() == DiskState::kSuspended) return false;
    if (payload_ != nullptr) TakePayload();
    if (discard_ != nullptr) DiscardPayload();
    SendOwed();
    if (payload_ != nullptr || discard_ != nullptr || parse_end_ - parse_begin_ < request_bytes()) {
      if (tls_ != nullptr ? DecryptReceived() : payload_ != nullptr && ReceiveNow()) continue;
      return true;
    }
    if (TurnIsOver()) {
      shard_.MarkWorkNextTurn(*this);
      return false;
    }
    if (!ParseOne()) return false;
  }
  return false;
}

Request& Session::Allocate() {
  if (free_requests_.empty()) {
    requests_.push_back(std::make_unique<Request>(*this));
    return *requests_.back();
  }
  Request* request = free_requests_.back();
  free_requests_.pop_back();
  return *request;
}

void Session::Free(Request& request) {
  if (request.phase() == Request::Phase::kIdle) std::abort();
  const uint64_t cost = request.cost_bytes();
  request.Clear();
  free_requests_.push_back(&request);
  --in_flight_;
  in_flight_bytes_ -= cost;
  record_->in_flight.store(in_flight_, std::memory_order_relaxed);
  disk_.counters().in_flight.Subtract(1);
  disk_.GiveBack(cost);
  shard_.MarkWork(*this);
}

void Session::Quiesce(bool offline) {
  if (closing_) {
    receive_buffer_.Wipe();
    if (tls_ != nullptr) tls_->WipeIdle();
  } else {
    quiescing_ = !offline;
    offline_ = offline;
    receive_dirty_ = true;
    if (receive_op_.pending()) {
      shard_.ring().Cancel(receive_op_);
    } else {
      WipeReceiveBuffer();
    }
  }
  shard_.ring().Cancel(send_op_);
  for (size_t i = 0; i < requests_.size(); ++i) {
    Request& request = *requests_[i];
    if (&request != payload_ && &request != discard_) request.Quiesce(offline);
  }
  if (!send_op_.pending()) UnanswerUnsent();
  shard_.MarkWork(*this);
}

void Session::Resume() {
  resumed_ns_ = BootTimeNs();
  quiescing_ = offline_ = false;
  for (size_t i = 0; i < requests_.size() && !closing_; ++i) {
    requests_[i]->Resume();
  }
  shard_.MarkWork(*this);
}

bool Session::Quiet(bool offline) const {
  if (receive_dirty_ || SendsPlaintext()) return false;
  if (std::any_of(requests_.begin(), requests_.end(),
                  [](const auto& request) { return request->away(); })) {
    return false;
  }
  return !offline || unfinished_requests() == 0;
}

uint64_t Session::parked_requests() const {
  return static_cast<uint64_t>(std::count_if(
      requests_.begin(), requests_.end(), [](const auto& request) { return request->parked(); }));
}

uint64_t Session::unfinished_requests() const {
  return static_cast<uint64_t>(
      std::count_if(requests_.begin(), requests_.end(), [this](const auto& request) {
        return request->phase() != Request::Phase::kIdle &&
               request->phase() != Request::Phase::kReply && request.get() != discard_;
      }));
}

void Session::Tick(int64_t now_ns) {
  if (closing_) return;
  const int64_t stall_ns_max = shard_.plane().options().drain_stall_ns_max;
  if (draining_ && send_op_.pending() && now_ns - progress_ns_ > stall_ns_max) {
    Close(cause_ + " and did not read its replies");
  } else if (KeepsOthersWaiting(now_ns)) {
    Close("the client was too slow with a reply or a payload while others waited for the memory");
  }
}

bool Session::KeepsOthersWaiting(int64_t now_ns) const {
  if (!disk_.OthersStarve(*this) || disk_.disk().state() == DiskState::kSuspended) return false;
  const Request* arriving = payload_ != nullptr ? payload_ : discard_;
  int64_t since_ns = now_ns;
  if (!replies_.empty()) since_ns = front_since_ns_;
  if (arriving != nullptr) since_ns = std::min(since_ns, arriving->received_ns());
  return now_ns - std::max(since_ns, resumed_ns_) > disk_.disk().hold_ns_max();
}

bool Session::Finished() const {
  return closing_ && in_flight_ == 0 && !receive_op_.pending() && !send_op_.pending();
}

void Session::Close(std::string cause) {
  if (closing_) return;
  closing_ = true;
  receive_dirty_ = false;
  EndTls();
  ::shutdown(socket_.get(), SHUT_RDWR);
  disk_.CountConnection(true);
  shard_.Forget(*record_, disk_.disk().id(), std::move(cause));
  // The kernel may still read the replies of a pending send, and write a payload.
  if (!send_op_.pending()) {
    replies_.clear();
    replies_bytes_ = 0;
  }
  if (!receive_op_.pending()) payload_ = nullptr;
  discard_ = nullptr;
  for (size_t i = 0; i < requests_.size(); ++i) {
    Request& request = *requests_[i];
    const bool in_kernel = (send_op_.pending() && request.phase() == Request::Phase::kReply) ||
                           (receive_op_.pending() && &request == payload_);
    if (!in_kernel) request.Abandon();
  }
  shard_.MarkWork(*this);
}

void Session::DropForGood() {
  for (const std::unique_ptr<Request>& request : requests_) request->DropForGood();
}

}  // namespace keyhold

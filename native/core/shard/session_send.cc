// SPDX-License-Identifier: Apache-2.0
// The sending half of a session.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

void Session::QueueReply(Request& request) {
  if (closing_) {
    Free(request);
    return;
  }
  if (replies_.empty()) front_since_ns_ = request.done_ns();
  replies_.push_back(&request);
  replies_bytes_ += request.reply_bytes();
  shard_.MarkWork(*this);
}

/// Sends every reply that is ready in one message.
void Session::StartSend() {
  if (closing_ || send_op_.pending()) return;
  if (tls_ != nullptr) {
    SendEncrypted();
    return;
  }
  if (replies_.empty()) return;
  send_message_ = {};
  send_message_.msg_iovlen = GatherReplies();
  send_message_.msg_iov = send_vectors_.data();
  shard_.ring().SendMessage(send_op_, socket_.get(), &send_message_);
}

void Session::SendOwed() {
  if (OwesReplies()) SendNow();
}

/// The same on this thread. What the socket does not take goes to the ring and waits for it there.
void Session::SendNow() {
  if (closing_ || send_op_.pending() || tls_ != nullptr) return;
  send_message_ = {};
  send_message_.msg_iovlen = GatherReplies();
  send_message_.msg_iov = send_vectors_.data();
  sending_ = 0;
  const ssize_t sent = ::sendmsg(socket_.get(), &send_message_, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) {
    progress_ns_ = BootTimeNs();
    record_->bytes_out.Add(static_cast<uint64_t>(sent));
    SettleSent(static_cast<size_t>(sent));
    if (front_sent_bytes_ > 0) StartSend();
  } else if (errno == EAGAIN || errno == EINTR) {
    StartSend();
  } else {
    SendFailed(errno);
  }
}

void Session::SendFailed(int errno_value) {
  Close(std::string("send: ") + std::strerror(errno_value));
}

/// Lists what is still to be sent of the replies that are ready; returns the number of vectors.
size_t Session::GatherReplies() {
  unanswered_bytes_ = 0;
  size_t skip = front_sent_bytes_;
  size_t vectors = 0;
  sending_ = 0;
  auto add = [&](std::span<const uint8_t> bytes) {
    const size_t skipped = std::min(skip, bytes.size());
    skip -= skipped;
    bytes = bytes.subspan(skipped);
    if (bytes.empty()) return;
    send_vectors_[vectors++] = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  };
  for (Request* request : replies_) {
    if (vectors + request->reply().size() > kReplyVectorsMax) break;
    for (const iovec& piece : request->reply()) {
      add({static_cast<const uint8_t*>(piece.iov_base), piece.iov_len});
    }
    request->Record(false);
    ++sending_;
  }
  return vectors;
}

void Session::OnSent(int32_t result) {
  shard_.MarkWork(*this);
  sending_ = 0;
  if (result > 0) {
    progress_ns_ = BootTimeNs();
    record_->bytes_out.Add(static_cast<uint64_t>(result));
    if (tls_ != nullptr) {
      tls_->TakeOutput(static_cast<size_t>(result));
    } else {
      SettleSent(static_cast<size_t>(result));
    }
  } else if (!closing_ && result != -ECANCELED && result != -EINTR && result != -EAGAIN) {
    SendFailed(-result);
  }
  if (closing_) {
    std::deque<Request*> rest;
    rest.swap(replies_);
    replies_bytes_ = 0;
    for (Request* request : rest) {
      if (request->phase() == Request::Phase::kReply) Free(*request);
    }
  } else if (quiescing_ || offline_) {
    UnanswerUnsent();
  }
}

void Session::SettleSent(size_t bytes) {
  bytes += front_sent_bytes_;
  front_sent_bytes_ = 0;
  while (!replies_.empty()) {
    Request* request = replies_.front();
    const size_t reply_bytes = request->reply_bytes();
    if (bytes < reply_bytes) {
      front_sent_bytes_ = bytes;
      return;
    }
    bytes -= reply_bytes;
    replies_bytes_ -= reply_bytes;
    replies_.pop_front();
    front_since_ns_ = progress_ns_;
    Free(*request);
  }
}

/// No send is pending. Takes back the replies with plaintext of which no byte has left.
void Session::UnanswerUnsent() {
  const bool offline = offline_;
  std::deque<Request*> kept;
  replies_bytes_ = 0;
  for (Request* request : replies_) {
    const bool begun = request == replies_.front() && front_sent_bytes_ > 0;
    if (!begun && request->reply_holds_plaintext()) {
      request->Record(true);
      request->Unanswer(offline);
      if (!offline) continue;
    }
    kept.push_back(request);
    replies_bytes_ += request->reply_bytes();
  }
  replies_ = std::move(kept);
}

bool Session::SendsPlaintext() const {
  return std::any_of(replies_.begin(), replies_.end(), [](const Request* request) {
    return request->phase() == Request::Phase::kReply && request->reply_holds_plaintext();
  });
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/negotiation.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "core/disk/lease.h"
#include "core/shard/plane.h"
#include "core/shard/shard.h"

namespace keyhold {

Negotiation::Negotiation(Shard& shard, std::shared_ptr<ConnectionRecord> record, UniqueFd socket)
    : Connection(shard, std::move(record), std::move(socket)),
      receive_op_(this, &Negotiation::OnReceived),
      send_op_(this, &Negotiation::OnSent) {}

void Negotiation::Begin() {
  shard_.Emit(NegotiationOpen{record_->id, record_->listener_id, record_->peer});
}

void Negotiation::Answer(std::vector<uint8_t> send, NextStep next) {
  if (state_ != State::kAsking || closed_) return;
  state_ = State::kSending;
  send_ = std::move(send);
  sent_bytes_ = 0;
  next_ = std::move(next);
  answered_ns_ = BootTimeNs();
  if (next_.kind == NextStep::Kind::kStartTls && ClientSpokeTooEarly()) {
    Close("the client sent bytes in clear between STARTTLS and the answer");
    return;
  }
  SendRest();
}

void Negotiation::SendRest() {
  if (tls_ != nullptr) {
    SendEncrypted();
    return;
  }
  if (sent_bytes_ == send_.size()) {
    DoNext();
    return;
  }
  shard_.ring().Send(send_op_, socket_.get(), std::span(send_).subspan(sent_bytes_));
}

void Negotiation::OnSent(int32_t result) {
  if (closed_) {
    shard_.MarkWork(*this);
    return;
  }
  if (result < 0 && result != -EINTR && result != -EAGAIN) {
    Close(std::string("send in negotiation: ") + std::strerror(-result));
    return;
  }
  if (result > 0) {
    if (tls_ != nullptr) {
      tls_->TakeOutput(static_cast<size_t>(result));
    } else {
      sent_bytes_ += static_cast<size_t>(result);
    }
    record_->bytes_out.Add(static_cast<uint64_t>(result));
  }
  if (state_ == State::kHandshake) {
    Handshake();
  } else {
    SendRest();
  }
}

void Negotiation::DoNext() {
  switch (next_.kind) {
    case NextStep::Kind::kRead:
      state_ = State::kReading;
      Receive();
      return;
    case NextStep::Kind::kStartTls:
      StartTls();
      return;
    case NextStep::Kind::kTransmission:
      state_ = State::kDone;
      shard_.StartSession(*this, std::move(next_));
      return;
    case NextStep::Kind::kClose:
      state_ = State::kLingering;
      linger_until_ns_ = BootTimeNs() + kLingerNs;
      EndTls();
      ::shutdown(socket_.get(), SHUT_WR);
      Receive();
      return;
  }
}

void Negotiation::Receive() {
  if (tls_ != nullptr && state_ != State::kLingering) {
    if (!ReadDecrypted()) shard_.ring().Receive(receive_op_, socket_.get(), tls_->input_room());
    return;
  }
  receive_buffer_.resize(kReceiveBytesMax);
  shard_.ring().Receive(receive_op_, socket_.get(), receive_buffer_);
}

void Negotiation::OnReceived(int32_t result) {
  if (closed_) {
    shard_.MarkWork(*this);
    return;
  }
  if (result > 0) record_->bytes_in.Add(static_cast<uint64_t>(result));
  if (result == -EINTR || result == -EAGAIN) {
    Receive();
  } else if (state_ == State::kLingering) {
    if (result > 0) {
      Receive();
    } else {
      Close("the server ended negotiation");
    }
  } else if (state_ == State::kHandshake && result == 0) {
    Close("tls handshake: the client left");
  } else if (result == 0) {
    Close("the client left during negotiation");
  } else if (result < 0) {
    Close(std::string("receive in negotiation: ") + std::strerror(-result));
  } else if (tls_ != nullptr) {
    tls_->AddInput(static_cast<size_t>(result));
    if (state_ == State::kHandshake) {
      handshake_bytes_ += static_cast<size_t>(result);
      Handshake();
    } else {
      Receive();
    }
  } else {
    EmitData(static_cast<size_t>(result));
  }
}

void Negotiation::EmitData(size_t bytes) {
  state_ = State::kAsking;
  receive_buffer_.resize(bytes);
  shard_.Emit(NegotiationData{record_->id, std::move(receive_buffer_)});
  receive_buffer_.clear();
}

void Negotiation::Tick(int64_t now_ns) {
  const bool last_answer =
      next_.kind == NextStep::Kind::kClose || next_.kind == NextStep::Kind::kTransmission;
  if (state_ == State::kSending && !closed_ && last_answer &&
      now_ns - answered_ns_ >= shard_.plane().options().last_answer_ns_max) {
    Close("the client did not read the answer that ended negotiation");
  }
  if (state_ == State::kLingering && !closed_ && now_ns >= linger_until_ns_) {
    Close("the server ended negotiation");
  }
}

bool Negotiation::Finished() const {
  return (closed_ || state_ == State::kDone) && !receive_op_.pending() && !send_op_.pending();
}

void Negotiation::Close(std::string cause) {
  if (closed_) return;
  closed_ = true;
  EndTls();
  ::shutdown(socket_.get(), SHUT_RDWR);
  shard_.Forget(*record_, 0, std::move(cause));
  shard_.MarkWork(*this);
}

}  // namespace keyhold

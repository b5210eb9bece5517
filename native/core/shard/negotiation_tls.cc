// SPDX-License-Identifier: Apache-2.0
// A negotiation's TLS: handshake, then the same ping-pong through the stream.
#include <sys/socket.h>

#include <utility>

#include "core/shard/negotiation.h"
#include "core/shard/shard.h"

namespace keyhold {

/// A client has nothing to say between its STARTTLS and our answer. Whatever is there already was
/// put in front of its handshake, by it or by somebody on the way (CVE-2021-3716).
bool Negotiation::ClientSpokeTooEarly() const {
  uint8_t byte = 0;
  return ::recv(socket_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

void Negotiation::StartTls() {
  if (next_.tls_context == nullptr || tls_ != nullptr) {
    Close("tls handshake: the server has no certificate or keys for this listener");
    return;
  }
  Result<std::unique_ptr<TlsStream>> stream = TlsStream::Create(std::move(next_.tls_context));
  if (!stream) {
    Close(stream.error().message);
    return;
  }
  tls_ = stream.Take();
  tls_memory_.resize(kTlsMemoryBytes);
  tls_->UseMemory(tls_memory_);
  send_.clear();
  sent_bytes_ = 0;
  state_ = State::kHandshake;
  Handshake();
}

/// After each receive and each send: exactly one of them is pending when this returns, or the
/// handshake is over.
void Negotiation::Handshake() {
  const TlsStream::Progress progress = tls_->Handshake();
  if (progress == TlsStream::Progress::kFailed) {
    Close(tls_->failure());
  } else if (!tls_->output().empty()) {
    shard_.ring().Send(send_op_, socket_.get(), tls_->output());
  } else if (progress == TlsStream::Progress::kMore && handshake_bytes_ > kHandshakeBytesMax) {
    Close("tls handshake: the client sent more than " + std::to_string(kHandshakeBytesMax) +
          " bytes");
  } else if (progress == TlsStream::Progress::kMore) {
    shard_.ring().Receive(receive_op_, socket_.get(), tls_->input_room());
  } else {
    TlsFacts facts = tls_->facts();
    shard_.NoteTls(*record_, facts);
    state_ = State::kAsking;
    shard_.Emit(NegotiationTls{record_->id, std::move(facts)});
  }
}

void Negotiation::SendEncrypted() {
  const std::span<uint8_t> rest = std::span(send_).subspan(sent_bytes_);
  if (!rest.empty()) {
    const iovec piece{rest.data(), rest.size()};
    sent_bytes_ += tls_->Encrypt({&piece, 1});
  }
  if (tls_->failed()) {
    Close(tls_->failure());
  } else if (!tls_->output().empty()) {
    shard_.ring().Send(send_op_, socket_.get(), tls_->output());
  } else {
    DoNext();
  }
}

/// False when more has to be received first.
bool Negotiation::ReadDecrypted() {
  receive_buffer_.resize(kReceiveBytesMax);
  const TlsStream::ReadResult result = tls_->Read({}, receive_buffer_);
  tls_->SendRest(socket_.get());  // an answer of TLS itself
  if (result.bytes > 0) {
    EmitData(result.bytes);
  } else if (result.end == TlsStream::End::kFailed) {
    Close(tls_->failure());
  } else if (result.end == TlsStream::End::kNotified) {
    Close("the client left during negotiation");
  } else {
    return false;
  }
  return true;
}

/// close_notify, or the alert of what failed, as far as the socket takes it at once.
void Negotiation::EndTls() {
  if (tls_ == nullptr || send_op_.pending()) return;
  tls_->Shutdown();
  tls_->SendRest(socket_.get());
}

}  // namespace keyhold

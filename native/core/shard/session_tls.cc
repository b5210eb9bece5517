// SPDX-License-Identifier: Apache-2.0
// A session's TLS: between the socket and the steps that parse and answer.
#include <sys/socket.h>

#include <cstring>

#include "core/disk/lease.h"
#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/shard_disk.h"

namespace keyhold {

bool Session::BeginTls() {
  tls_memory_ = shard_.pool().Take(kTlsMemoryBytes, disk_.owner());
  if (!tls_memory_) {
    Close("no memory for the session");
    return false;
  }
  tls_->UseMemory({tls_memory_.data(), kTlsMemoryBytes});
  return true;
}

/// Decrypts what has come to where a receive would have put it. False when nothing was there.
bool Session::DecryptReceived() {
  std::span<uint8_t> rest;
  if (payload_ != nullptr) rest = payload_->payload_rest();
  const TlsStream::ReadResult result = tls_->Read(rest, MakeReceiveRoom());
  if (result.bytes > 0) Received(result.bytes);
  if (result.end == TlsStream::End::kFailed) {
    Close(tls_->failure());
  } else if (result.end == TlsStream::End::kNotified && result.bytes == 0) {
    EndOfInput("the client left");
  }
  return result.bytes > 0;
}

void Session::ArmReceiveTls() {
  if (closing_ || draining_) return;
  const std::span<uint8_t> room = tls_->input_room();
  // None: an answer of TLS itself has to leave first, and the end of its send is work.
  if (!room.empty()) shard_.ring().Receive(receive_op_, socket_.get(), room);
}

/// No send is pending. Fills the output with records, then sends it in one go; what does not fit
/// waits as plaintext, which can still be taken back.
void Session::SendEncrypted() {
  while (!replies_.empty()) {
    const size_t vectors = GatherReplies();
    const size_t encrypted = tls_->Encrypt({send_vectors_.data(), vectors});
    if (encrypted == 0) break;
    progress_ns_ = BootTimeNs();  // the reply behind it becomes the first only now
    SettleSent(encrypted);
  }
  if (disk_.disk().state() != DiskState::kServing) tls_->WipeCork();
  if (tls_->failed()) {
    Close(tls_->failure());
  } else if (!tls_->output().empty()) {
    shard_.ring().Send(send_op_, socket_.get(), tls_->output());
  }
}

/// Replies are done with when they are encrypted; the connection when they have left.
bool Session::FlushedTls() const {
  return tls_ == nullptr || (!send_op_.pending() && tls_->output().empty());
}

/// close_notify, or the alert of what failed, as far as the socket takes it at once. Behind a send
/// that is pending nothing can be put: its client does not read.
void Session::EndTls() {
  if (tls_ == nullptr || send_op_.pending()) return;
  tls_->Shutdown();
  tls_->SendRest(socket_.get());
}

}  // namespace keyhold

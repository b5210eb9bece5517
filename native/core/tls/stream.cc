// SPDX-License-Identifier: Apache-2.0
#include "core/tls/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/keys/openssl_errors.h"
#include "core/tls/facts_of.h"
#include "core/tls/openssl_handles.h"

namespace keyhold {

/// The end of a stream that OpenSSL sees.
struct StreamBio {
  static int Read(BIO* bio, char* into, size_t bytes, size_t* done) {
    auto& input = static_cast<TlsStream*>(BIO_get_data(bio))->input_;
    BIO_clear_retry_flags(bio);
    *done = std::min(bytes, input.used().size());
    if (*done == 0) {
      BIO_set_retry_read(bio);
      return 0;
    }
    std::memcpy(into, input.used().data(), *done);
    input.Take(*done);
    return 1;
  }
  static int Write(BIO* bio, const char* from, size_t bytes, size_t* done) {
    auto& output = static_cast<TlsStream*>(BIO_get_data(bio))->output_;
    BIO_clear_retry_flags(bio);
    *done = std::min(bytes, output.room().size());
    if (*done == 0) {
      BIO_set_retry_write(bio);
      return 0;
    }
    std::memcpy(output.room().data(), from, *done);
    output.end += *done;
    return 1;
  }
  static long Control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static BIO* New(TlsStream* stream) {
    static BIO_METHOD* const method = Method();
    BIO* bio = method == nullptr ? nullptr : BIO_new(method);
    if (bio == nullptr) return nullptr;
    BIO_set_data(bio, stream);
    BIO_set_init(bio, 1);
    return bio;
  }
  static BIO_METHOD* Method() {
    BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "keyhold");
    if (method == nullptr) return nullptr;
    BIO_meth_set_read_ex(method, Read);
    BIO_meth_set_write_ex(method, Write);
    BIO_meth_set_ctrl(method, Control);
    return method;
  }
};

void TlsStream::Window::Take(size_t bytes) {
  begin += bytes;
  if (begin == end) begin = end = 0;
}

void TlsStream::Window::MoveTo(std::span<uint8_t> to) {
  const std::span<uint8_t> left = used();
  if (!left.empty()) std::memmove(to.data(), left.data(), left.size());
  memory = to;
  begin = 0;
  end = left.size();
}

void TlsStream::Window::WipeRest() {
  if (memory.empty()) return;
  explicit_bzero(memory.data(), begin);
  explicit_bzero(memory.data() + end, memory.size() - end);
}

Result<std::unique_ptr<TlsStream>> TlsStream::Create(std::shared_ptr<const TlsContext> context) {
  const OpensslErrors errors;
  std::unique_ptr<TlsStream> stream(new TlsStream(std::move(context)));
  stream->ssl_ = stream->context_->NewConnection();
  BIO* bio = stream->ssl_ == nullptr ? nullptr : StreamBio::New(stream.get());
  if (bio == nullptr) return Error{ErrorCode::kNoMemory, 0, "tls: no memory for a connection"};
  SSL_set_bio(stream->ssl_, bio, bio);
  SSL_set_app_data(stream->ssl_, stream.get());
  SSL_set_accept_state(stream->ssl_);
  return stream;
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

void TlsStream::UseMemory(std::span<uint8_t> memory) {
  if (memory.size() < kMemoryBytesMin) std::abort();
  cork_ = memory.last(kRecordBytesMax);
  memory = memory.first(memory.size() - kRecordBytesMax);
  const size_t third = memory.size() / 3;
  // The old memory may be the smaller one only: what it holds fits.
  input_.MoveTo(memory.first(third));
  output_.MoveTo(memory.subspan(third));
}

std::span<uint8_t> TlsStream::input_room() {
  input_.MoveTo(input_.memory);
  return input_.room();
}

TlsStream::Progress TlsStream::Handshake() {
  const OpensslErrors errors;
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) return Progress::kDone;
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Progress::kMore;
  Fail("tls handshake");
  const long verified = SSL_get_verify_result(ssl_);
  if (verified != X509_V_OK) {
    failure_.append(": ").append(X509_verify_cert_error_string(verified));
  }
  return Progress::kFailed;
}

void TlsStream::Fail(const char* operation) {
  failure_ = std::string(operation) + ": " + OpensslOutcome();
}

TlsFacts TlsStream::FactsOf() const {
  const OpensslErrors errors;
  return keyhold::FactsOf(ssl_, psk_identity_);
}

const SecretBuffer* TlsStream::OfferPsk(std::string_view identity) {
  const SecretBuffer* key = context_->FindPsk(identity);
  psk_identity_ = key == nullptr ? std::string() : std::string(identity);
  return key;
}

TlsStream::ReadResult TlsStream::ReadRecord(std::span<uint8_t> into) {
  size_t bytes = 0;
  if (SSL_read_ex(ssl_, into.data(), into.size(), &bytes) == 1) return {bytes, End::kOpen};
  switch (SSL_get_error(ssl_, 0)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return {0, End::kOpen};
    case SSL_ERROR_ZERO_RETURN:
      return {0, End::kNotified};
    default:
      Fail("tls");
      return {0, End::kFailed};
  }
}

TlsStream::ReadResult TlsStream::Read(std::span<uint8_t> first, std::span<uint8_t> second) {
  const OpensslErrors errors;
  ReadResult all{0, End::kOpen};
  if (failed()) return {0, End::kFailed};
  // The record that `first` ends in goes on in `second`; a new one is begun only where it fits, so
  // that no plaintext stays in the SSL object.
  while (!first.empty() || second.size() >= kRecordBytesMax || SSL_pending(ssl_) > 0) {
    std::span<uint8_t>& target = first.empty() ? second : first;
    const ReadResult one = ReadRecord(target);
    all.end = one.end;
    if (one.bytes == 0) break;
    all.bytes += one.bytes;
    target = target.subspan(one.bytes);
  }
  return all;
}

bool TlsStream::WriteRecord(std::span<const uint8_t> plaintext) {
  size_t written = 0;
  // There is room, so a record is written whole or the connection is broken.
  if (SSL_write_ex(ssl_, plaintext.data(), plaintext.size(), &written) == 1 &&
      written == plaintext.size()) {
    return true;
  }
  Fail("tls");
  return false;
}

bool TlsStream::FlushCork(size_t* corked, size_t* done) {
  if (*corked == 0) return true;
  if (!HasRecordRoom() || !WriteRecord(cork_.first(*corked))) return false;
  *done += std::exchange(*corked, 0);
  return true;
}

size_t TlsStream::Encrypt(std::span<const iovec> pieces) {
  const OpensslErrors errors;
  if (failed() || !HasRecordRoom()) return 0;
  size_t done = 0;
  size_t corked = 0;
  for (const iovec& piece : pieces) {
    std::span<const uint8_t> rest(static_cast<const uint8_t*>(piece.iov_base), piece.iov_len);
    const bool cork = rest.size() <= kCorkPieceBytesMax;
    if (!cork && !FlushCork(&corked, &done)) return done;
    while (!rest.empty()) {
      size_t bytes = 0;
      if (cork) {
        bytes = std::min(rest.size(), cork_.size() - corked);
        std::memcpy(cork_.data() + corked, rest.data(), bytes);
        corked += bytes;
        if (corked == cork_.size() && !FlushCork(&corked, &done)) return done;
      } else {
        bytes = std::min(rest.size(), kRecordBytesMax);
        if (!HasRecordRoom() || !WriteRecord(rest.first(bytes))) return done;
        done += bytes;
      }
      rest = rest.subspan(bytes);
    }
  }
  FlushCork(&corked, &done);
  return done;
}

void TlsStream::Shutdown() {
  const OpensslErrors errors;
  if (failed() || SSL_is_init_finished(ssl_) == 0) return;
  if ((SSL_get_shutdown(ssl_) & SSL_SENT_SHUTDOWN) == 0) SSL_shutdown(ssl_);
}

void TlsStream::SendRest(int socket) {
  while (!output().empty()) {
    const ssize_t sent =
        ::send(socket, output().data(), output().size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;
    TakeOutput(static_cast<size_t>(sent));
  }
}

void TlsStream::WipeIdle() {
  input_.WipeRest();
  output_.WipeRest();
  WipeCork();
}

void TlsStream::WipeCork() {
  if (!cork_.empty()) explicit_bzero(cork_.data(), cork_.size());
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>
#include <sys/uio.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/tls/context.h"
#include "core/tls/facts.h"

namespace keyhold {

/// TLS of one connection, between its plaintext and its ciphertext. No I/O: the owner (Negotiation,
/// then Session) moves the ciphertext.
///
///   socket ─recv─▶ input ─Read──▶ plaintext of the owner
///   socket ◀─send─ output ◀─Encrypt─ plaintext of the owner
///
/// A connection's life, in the order of its bytes:
///
///   1. The owner sends the clear reply to STARTTLS, whole; only then a stream is made. Bytes that
///      the client sent in clear before that reply end the connection: they could only be requests
///      that somebody wants to have executed inside.
///   2. Handshake, input and output by turns, until it is done and all output sent. A failure puts
///      an alert into the output; the owner sends it if the socket takes it, and closes.
///   3. Negotiation over TLS, from nothing: what was agreed in clear is forgotten. The state moves
///      to the Session with whatever ciphertext has come already.
///   4. Transmission. Shutdown puts close_notify behind what is in the output; no Encrypt follows.
///
/// When a disk loses its key, what counts is where its plaintext is. It is in here only within a
/// call: Read hands out all that a record held, Encrypt returns with everything it took inside
/// whole records in the output. A record cannot be taken back, since the numbers of records are
/// part of their encryption, so a half-sent one must be completed; a reply of which nothing is
/// encrypted yet is the owner's to take back. WipeIdle then clears the memory that is not in use.
///
/// Bounds: input and output are memory of the owner, of a fixed size. A client that does not read
/// fills the output, then nothing more is read or encrypted. Answers that TLS itself gives (key
/// updates, alerts) wait for room like everything else.
class TlsStream {
 public:
  /// Plaintext of a record (RFC 8446 section 5.1).
  static constexpr size_t kRecordBytesMax = 16 * 1024;
  /// Room that a record needs: header, nonce, tag, and an answer of TLS itself before it.
  static constexpr size_t kRecordRoomBytes = kRecordBytesMax + 512;
  /// Pieces up to here are copied to share a record (a header with its payload, several replies);
  /// longer ones go into records of their own straight from where they are.
  static constexpr size_t kCorkPieceBytesMax = 8 * 1024;
  static constexpr size_t kMemoryBytesMin = 3 * kRecordRoomBytes + kRecordBytesMax;

  static Result<std::unique_ptr<TlsStream>> Create(std::shared_ptr<const TlsContext> context);
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;
  ~TlsStream();

  /// Works in `memory` from now on, which holds at least kMemoryBytesMin: one third for input, the
  /// rest for output, and one record for the cork. What the old memory held moves along.
  void UseMemory(std::span<uint8_t> memory);

  // Ciphertext.
  /// Where to receive to; empty when there is no room.
  std::span<uint8_t> input_room();
  void AddInput(size_t bytes) { input_.end += bytes; }
  /// What is to be sent; stays where it is until TakeOutput.
  std::span<const uint8_t> output() const { return output_.used(); }
  void TakeOutput(size_t bytes) { output_.Take(bytes); }

  enum class Progress : uint8_t { kDone, kMore, kFailed };
  /// kMore: send what is in the output, then receive.
  Progress Handshake();
  TlsFacts facts() const { return FactsOf(); }

  enum class End : uint8_t {
    kOpen,      // more may come
    kNotified,  // the client ended its half
    kFailed
  };
  struct ReadResult {
    size_t bytes;
    End end;
  };
  /// Decrypts what has been received into `first`, then `second`, which has kRecordBytesMax bytes
  /// of room at least.
  ReadResult Read(std::span<uint8_t> first, std::span<uint8_t> second);

  /// Encrypts as much of `pieces` as the output has room for; returns how many bytes that was.
  size_t Encrypt(std::span<const iovec> pieces);
  bool failed() const { return !failure_.empty(); }
  /// Why a call failed, for the cause of the close.
  const std::string& failure() const { return failure_; }

  /// Puts close_notify into the output, once, if the connection got that far.
  void Shutdown();
  /// Sends what the socket takes of the output at once: for a connection that is about to close and
  /// has no send pending.
  void SendRest(int socket);

  /// Clears plaintext that was corked.
  void WipeCork();
  /// And ciphertext that was taken.
  void WipeIdle();

  /// For the PSK callbacks: notes the name; null when there is no key of that name.
  const SecretBuffer* OfferPsk(std::string_view identity);

 private:
  /// A piece of memory that is filled at `end` and used up at `begin`.
  struct Window {
    std::span<uint8_t> memory;
    size_t begin = 0;
    size_t end = 0;
    std::span<uint8_t> used() const { return memory.subspan(begin, end - begin); }
    std::span<uint8_t> room() const { return memory.subspan(end); }
    void Take(size_t bytes);
    void MoveTo(std::span<uint8_t> to);
    void WipeRest();
  };
  friend struct StreamBio;

  explicit TlsStream(std::shared_ptr<const TlsContext> context) : context_(std::move(context)) {}
  TlsFacts FactsOf() const;
  ReadResult ReadRecord(std::span<uint8_t> into);
  bool HasRecordRoom() const { return output_.room().size() >= kRecordRoomBytes; }
  bool WriteRecord(std::span<const uint8_t> plaintext);
  bool FlushCork(size_t* corked, size_t* done);
  void Fail(const char* operation);

  const std::shared_ptr<const TlsContext> context_;
  SSL* ssl_ = nullptr;
  Window input_;
  Window output_;
  std::span<uint8_t> cork_;
  std::string psk_identity_;
  std::string failure_;
};

}  // namespace keyhold

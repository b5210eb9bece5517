// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "core/io/ring.h"
#include "core/shard/connection.h"
#include "core/shard/request.h"
#include "core/tls/stream.h"

namespace keyhold {

class ShardDisk;

/// A connection in transmission: requests in, replies out.
///
///   kOpen ──DISC or end of file──▶ draining ──all answered──▶ closing ──nothing pending──▶
///   finished
///     └───────────── violation, socket error, disconnect ──────▲
///
/// Receiving: one receive at a time into `receive_buffer_`, of which many requests are parsed; the
/// rest of a WRITE's payload goes straight into its request's buffer. While a bound is reached
/// nothing is parsed and nothing received, so further requests wait in the kernel and, through its
/// window, at the client. Sending: one send at a time, with every reply that is ready.
///
/// Slow clients: a reply that is not read and a payload that does not arrive hold bytes of the
/// disk's bound, and no lock. They may for as long as nobody else needs these; when another session
/// waits for them, a reply or payload gets Disk::kHoldNsMax, then its client is closed. A client
/// that is idle, or whose requests are with the store or parked, holds nobody up.
///
/// When the disk loses its key (Quiesce), in this order: the receive is cancelled and, once it has
/// ended, the receive buffer wiped but for what is not parsed yet; the send is cancelled; requests
/// are parked or refused; replies that hold plaintext and are not begun go back to being requests.
/// A reply that has begun must go on, or the client could not find the next one: it gets a grace,
/// then the connection is closed (ShardDisk). Suspended: nothing is received. Locked: requests are
/// received and answered ESHUTDOWN, and every byte is wiped as soon as it is parsed.
///
/// With TLS (session_tls.cc) the same steps see the plaintext: a reply is "sent" as soon as it is
/// encrypted into a record, which then leaves whole; see TlsStream.
class Session final : public Connection {
 public:
  static constexpr size_t kReceiveBufferBytes = 256 * 1024;
  static constexpr uint32_t kInFlightRequestsMax = 128;       // a Linux client has 128 tags
  static constexpr uint64_t kInFlightBytesMax = 64ULL << 20;  // two of the longest payloads
  static constexpr size_t kReplyVectorsMax = 256;             // of one sendmsg; below IOV_MAX
  /// Replies of this many bytes leave at once, while they are in the processor's cache; fewer wait
  /// for the others of the turn and leave with them.
  static constexpr size_t kSendNowBytes = 64 * 1024;
  /// After this many bytes of payload a client shall have the replies to what it sent before: it
  /// may have nothing left to send without them.
  static constexpr uint64_t kUnansweredBytesMax = 128 * 1024;
  /// What one session may do before the others of its shard have their turn; about a millisecond.
  static constexpr uint64_t kTurnBytesMax = 2U << 20;
  static constexpr uint32_t kTurnRequestsMax = 64;
  /// The rest of a payload that is at least this long is received without what follows it but for
  /// one header: so the next payload, too, goes from the socket straight into its own buffer.
  static constexpr size_t kDirectPayloadBytesMin = 32 * 1024;
  /// What one receive takes of a longer payload: enough for a call, and half of a second-level
  /// cache.
  static constexpr size_t kPayloadPieceBytesMax = 256 * 1024;
  /// Of a unix socket: lets the client read one large reply while the next one is being decrypted.
  static constexpr int kSocketSendBytes = 1 << 20;
  static_assert(kReplyVectorsMax >= Request::kReplyVectorsMax);
  static constexpr size_t kTlsMemoryBytes = 512 * 1024;  // ciphertext both ways, and a cork
  /// A client that said DISC but does not read its replies is closed after this.
  static constexpr int64_t kDrainStallNs = 10'000'000'000;

  Session(Shard& shard, ShardDisk& disk, std::shared_ptr<ConnectionRecord> record, UniqueFd socket,
          wire::Agreed agreed);
  ~Session() override;

  /// Before Begin; null in clear.
  void UseTls(std::unique_ptr<TlsStream> tls) { tls_ = std::move(tls); }

  /// False when there is no memory or `leftover` does not fit; the session is closed then.
  bool Begin(std::span<const uint8_t> leftover);

  void Work() override;
  void Tick(int64_t now_ns) override;
  bool Finished() const override;
  void Close(std::string cause) override;

  void Quiesce(bool offline);
  void Resume();
  /// No plaintext is on its way in or out, and in the offline case nothing is left to answer.
  bool Quiet(bool offline) const;
  bool SendsPlaintext() const;
  uint64_t parked_requests() const;
  uint64_t unfinished_requests() const;
  bool closing() const { return closing_; }
  /// The shard is going and its ring is empty: gives up locks and buffers.
  void DropForGood();

  // For Request.
  Shard& shard() { return shard_; }
  ShardDisk& disk() { return disk_; }
  const wire::Agreed& agreed() const { return agreed_; }
  bool structured_replies() const { return agreed_.replies != wire::Replies::kSimple; }
  bool extended_headers() const { return agreed_.replies == wire::Replies::kExtended; }
  void QueueReply(Request& request);
  /// Sends what shall not wait for the end of the turn.
  void SendOwed();
  void Free(Request& request);

 private:
  bool Pump();
  bool TurnIsOver() const {
    return turn_bytes_ >= kTurnBytesMax || turn_requests_ >= kTurnRequestsMax;
  }
  bool OwesReplies() const {
    return replies_bytes_ >= kSendNowBytes ||
           (!replies_.empty() && unanswered_bytes_ >= kUnansweredBytesMax);
  }
  void TakePayload();
  void DiscardPayload();
  size_t request_bytes() const {
    return extended_headers() ? wire::kExtendedRequestBytes : wire::kRequestBytes;
  }
  bool ParseOne();
  void Admit(const wire::RequestHeader& header);
  bool HasRoom(const wire::RequestHeader& header);
  Request& Allocate();
  std::span<uint8_t> MakeReceiveRoom();
  void ArmReceive();
  void AimAtPayload(std::span<uint8_t> room);
  bool ReceiveNow();
  void OnReceived(int32_t result);
  void Received(size_t bytes);
  void EndOfInput(const char* cause);
  void WipeReceiveBuffer();

  void StartSend();
  void SendNow();
  size_t GatherReplies();
  void OnSent(int32_t result);
  void SendFailed(int errno_value);
  void SettleSent(size_t bytes);
  void UnanswerUnsent();
  bool KeepsOthersWaiting(int64_t now_ns) const;

  bool BeginTls();
  bool DecryptReceived();
  void ArmReceiveTls();
  void SendEncrypted();
  bool FlushedTls() const;
  void EndTls();

  ShardDisk& disk_;
  const wire::Agreed agreed_;
  bool draining_ = false;
  bool closing_ = false;
  bool quiescing_ = false;      // suspended: set by Quiesce, cleared by Resume
  bool offline_ = false;        // locked: the same
  bool receive_dirty_ = false;  // the receive buffer still has to be wiped
  std::string cause_ = "the client left";

  Buffer tls_memory_;
  std::unique_ptr<TlsStream> tls_;  // null in clear

  Buffer receive_buffer_;
  size_t parse_begin_ = 0;
  size_t parse_end_ = 0;
  Request* payload_ = nullptr;  // the request whose payload is arriving
  Request* discard_ = nullptr;  // a request whose payload is dropped before it is answered
  uint32_t discard_left_ = 0;
  WireError discard_error_;
  std::array<iovec, 2> receive_vectors_{};
  msghdr receive_message_{};
  MemberOp<Session> receive_op_;

  std::vector<std::unique_ptr<Request>> requests_;
  std::vector<Request*> free_requests_;
  uint32_t in_flight_ = 0;
  uint64_t in_flight_bytes_ = 0;
  uint32_t turn_requests_ = 0;       // admitted in this turn
  uint64_t turn_bytes_ = 0;          // that they move
  uint64_t turn_payload_bytes_ = 0;  // received in this turn outside the ring
  uint64_t unanswered_bytes_ = 0;    // the same, since replies were sent

  std::deque<Request*> replies_;
  size_t replies_bytes_ = 0;     // of all replies, with what of the first one is sent
  size_t front_sent_bytes_ = 0;  // of the first reply
  size_t sending_ = 0;           // how many replies the pending send holds
  int64_t progress_ns_ = 0;      // when a send last made progress
  int64_t front_since_ns_ = 0;   // when the first reply became the first
  int64_t resumed_ns_ = 0;       // when a suspension last ended: during it nothing is received
  std::array<iovec, kReplyVectorsMax> send_vectors_{};
  msghdr send_message_{};
  MemberOp<Session> send_op_;
};

}  // namespace keyhold

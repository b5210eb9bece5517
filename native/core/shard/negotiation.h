// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/io/ring.h"
#include "core/shard/connection.h"
#include "core/tls/stream.h"

namespace keyhold {

/// A connection before transmission: moves bytes between the client and the control plane, which
/// parses them. Strict ping-pong, so one event per connection is unanswered at most.
///
///           accepted                 Answer(send, next)
///   ───────────────────▶ kAsking ───────────────────────▶ kSending ──all sent──┬─ next read ─▶
///   kReading
///        event open         ▲ ▲                                                ├─ transmission ─▶
///        kDone              │ │                                                ├─ close ─▶
///        kLingering         │ └──────── event data ── kReading ◀───────────────┤
///                           └────────── event tls ─── kHandshake ◀─────────────┘
///
/// From the handshake on every byte goes through `tls_` (negotiation_tls.cc).
class Negotiation final : public Connection {
 public:
  static constexpr size_t kReceiveBytesMax = 64 * 1024;
  /// How long a closed connection waits for the client's end of file. Closing at once while the
  /// client still sends would reset the connection and could destroy the last reply.
  static constexpr int64_t kLingerNs = 1'000'000'000;
  /// What a client may send before it has proven anything: OpenSSL takes 100 KiB of certificates.
  static constexpr size_t kHandshakeBytesMax = 128 * 1024;
  static constexpr size_t kTlsMemoryBytes = 96 * 1024;
  static_assert(kTlsMemoryBytes >= TlsStream::kMemoryBytesMin);

  /// How long a client may take to read the answer that ends its negotiation. Before that answer
  /// the control plane's limit of the handshake holds.
  static constexpr int64_t kLastAnswerNsMax = 10'000'000'000;

  Negotiation(Shard& shard, std::shared_ptr<ConnectionRecord> record, UniqueFd socket);
  ~Negotiation() override = default;

  void Begin();
  /// Ignored unless an event is unanswered.
  void Answer(std::vector<uint8_t> send, NextStep next);

  void Work() override {}
  void Tick(int64_t now_ns) override;
  bool Finished() const override;
  void Close(std::string cause) override;

  /// For the session that follows; null in clear.
  std::unique_ptr<TlsStream> TakeTls() { return std::move(tls_); }

 private:
  enum class State : uint8_t { kAsking, kSending, kHandshake, kReading, kLingering, kDone };
  void OnSent(int32_t result);
  void OnReceived(int32_t result);
  void SendRest();
  void DoNext();
  void Receive();
  void EmitData(size_t bytes);

  bool ClientSpokeTooEarly() const;
  void StartTls();
  void Handshake();
  void SendEncrypted();
  bool ReadDecrypted();
  void EndTls();

  State state_ = State::kAsking;
  bool closed_ = false;
  std::vector<uint8_t> receive_buffer_;
  std::vector<uint8_t> send_;
  size_t sent_bytes_ = 0;
  NextStep next_;
  std::unique_ptr<TlsStream> tls_;
  std::vector<uint8_t> tls_memory_;
  size_t handshake_bytes_ = 0;
  int64_t linger_until_ns_ = 0;
  int64_t answered_ns_ = 0;
  MemberOp<Negotiation> receive_op_;
  MemberOp<Negotiation> send_op_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "core/disk/disk.h"
#include "core/shard/buffer_pool.h"
#include "core/shard/cipher_threads.h"
#include "core/shard/validate.h"
#include "core/shard/wire.h"
#include "core/store/store.h"

namespace keyhold {

class Session;

/// One request from header to reply; belongs to a slot of its session and is used again and again.
///
///   kIdle ─▶ kPayload ─▶ kLock ─▶ kReady ─▶ kFill ─▶ kCipher ─▶ kStore ─▶ kSync ─▶ kReply ─▶ kIdle
///            (WRITE)                        (READ: store → buffer;          (FUA,
///                                            partial sectors: their old     FLUSH)
///                                            contents)
///   READ          lock, fill, decrypt (kCipher), reply
///                 (a long one waits at kTurn until the shard comes to it, or a cipher thread does
///                 both without the shard: request_away.cc)
///   WRITE         payload, lock, [fill edges], encrypt, store, [sync], reply
///                 (of a long one whole sectors are encrypted while the rest still arrives, and
///                 stored if that takes no waiting: see WorkOffPayload)
///   WRITE_ZEROES  for each piece of the whole sectors, then head edge and tail edge:
///                 lock, [fill], [encrypt], store; [sync], reply
///   TRIM          for each piece: lock, store (punch); [sync], reply
///   FLUSH         sync, reply
///   CACHE         for each piece: store (read ahead); reply
///   BLOCK_STATUS  [payload], fill (ask the store for extents), reply
///
/// A range of any length is worked on in pieces, and the lock on one piece is given up before the
/// next: so a request for a whole disk holds up nobody for longer than a piece takes, and each
/// piece asks anew whether the disk still serves.
///
/// Without a key (the guard refuses, or the disk is not kServing) a request at kReady or kCipher
/// parks where it is while the disk is suspended, and is answered ESHUTDOWN when it is locked. What
/// a parked request may hold in memory: a READ nothing but ciphertext; a WRITE its payload, of
/// which the first `cipher_done_` bytes may be ciphertext already (the DEK is the same after a
/// resume, so it stays valid).
class Request final : public StoreOp, public LockWaiter, public CipherJob {
 public:
  enum class Phase : uint8_t {
    kIdle,
    kPayload,
    kLock,
    kReady,
    kTurn,
    kFill,
    kCipher,
    kStore,
    kSync,
    kReply
  };

  /// Bytes per scope of the key guard: what a wipe waits for (about 0.1 ms with the slowest
  /// kernel).
  static constexpr size_t kCipherChunkBytes = 256 * 1024;
  /// Less of a payload is not worked off before the rest has arrived.
  static constexpr size_t kPayloadPieceBytes = 32 * 1024;
  /// Piece of zeros that is written where the store cannot punch or zero a range itself.
  static constexpr size_t kZeroPieceBytes = 1U << 20;
  /// What one call punches or zeroes: milliseconds of a file system's time if all of it is data,
  /// and few enough calls for the largest disks.
  static constexpr uint64_t kRangePieceBytes = 1ULL << 30;
  /// Of a longer CACHE only the beginning is read ahead: nobody may turn over the host's page cache
  /// with one request.
  static constexpr uint64_t kCacheBytesMax = 64ULL << 20;
  /// Extents of one BLOCK_STATUS reply; fills the smallest buffer of the pool.
  static constexpr size_t kStatusExtentsMax = 256;
  /// A shorter run of zeros in a READ is sent as data: below, another pair of chunks (72 bytes or
  /// less) and a client's work on it are not worth it.
  static constexpr size_t kHoleChunkBytesMin = 4096;
  /// Holes told apart in one READ reply; later ones are sent as zeros. What they need fits into the
  /// smallest buffer of the pool.
  static constexpr size_t kReplyHolesMax = 32;
  /// Of each data chunk its head and its data, and the heads of a hole at the end.
  static constexpr size_t kReplyVectorsMax = 2 * (kReplyHolesMax + 1) + 1;

  explicit Request(Session& session) : session_(session) {}

  Phase phase() const { return phase_; }
  bool parked() const { return parked_; }
  uint64_t cost_bytes() const { return cost_bytes_; }
  Command command() const { return command_; }
  int64_t received_ns() const { return received_ns_; }
  int64_t done_ns() const { return done_ns_; }

  /// Takes over a validated header, or one that will be failed with Fail.
  void Prepare(const wire::RequestHeader& header, int64_t now_ns);
  /// Memory that this request will hold, for the in-flight bounds.
  static uint64_t CostBytes(const wire::RequestHeader& header);

  /// Gets the buffer for the payload. False when there is no memory.
  bool TakePayloadBuffer();
  /// The part of the payload that has not arrived yet.
  std::span<uint8_t> payload_rest();
  void AdvancePayload(size_t bytes) { payload_got_ += static_cast<uint32_t>(bytes); }

  /// Not everything has arrived. Encrypts the whole sectors that have, while they are in the
  /// processor's cache and the client fills the socket again; and stores them if nothing has to be
  /// waited for. No lock is held afterwards, and what could not be done now, or failed, is left to
  /// Start. So a client that leaves in the middle of a long WRITE may leave its beginning written,
  /// as it would with several shorter ones.
  void WorkOffPayload();
  /// Everything has arrived: runs until it needs to wait.
  void Start();
  /// Answers with an error (or, with code 0, success without doing anything).
  void Fail(WireError error) { Finish(error); }
  /// News from the lock table or a cipher thread, on this request's own shard.
  void OnNews();

  /// For LongReads, of a request at kTurn: the shard has come to it.
  void TakeTurn();
  /// The same: gets it what it needs to run away from its shard. False when there is no memory.
  bool PrepareAway();
  /// With a cipher thread, or about to be.
  bool away() const { return away_; }

  /// The disk lost its key. Wipes what plaintext may not stay and parks (suspend), or refuses
  /// (offline). A request in kPayload is the session's matter: it first calls AbandonPayload when
  /// offline.
  void Quiesce(bool offline);
  void AbandonPayload();
  /// The key is back.
  void Resume();
  /// The connection is gone: drops the request at the next moment at which nothing is pending.
  void Abandon();
  /// The whole shard is going, with nothing pending on its ring.
  void DropForGood();

  // The reply, valid in kReply.
  std::span<const iovec> reply() const { return reply_; }
  size_t reply_bytes() const { return reply_bytes_; }
  bool reply_holds_plaintext() const { return reply_holds_plaintext_; }
  /// A READ's reply that was not begun to be sent: the plaintext is wiped; parks or turns into
  /// ESHUTDOWN.
  void Unanswer(bool offline);
  /// Counts the request when its reply begins to be sent (`undo` when it did not leave after all).
  void Record(bool undo);
  /// Back to kIdle; the session calls it after the reply is sent.
  void Clear();

 private:
  void OnStoreDone(int32_t result) override;
  void OnLockGranted() override;
  void RunAway(uint32_t guard_slot) override;
  void GiveBack() override;

  Disk& disk() const;
  uint32_t sector_bytes() const { return disk().geometry().sector_size_bytes; }
  bool head_partial() const { return head_skip_ != 0; }
  bool tail_partial() const { return (head_skip_ + length_bytes_) % sector_bytes() != 0; }
  bool single_sector() const { return span_bytes_ == sector_bytes(); }
  uint64_t unit(uint64_t byte_in_span) const { return (span_offset_ + byte_in_span) / 512; }

  void SetSpan();
  void Lock(uint64_t begin, uint64_t end, LockKind lock_kind);
  void Begin();
  void BeginRead();
  bool WaitForTurn();
  void OnBack();
  bool Withdraw();
  void ForgetRead();
  bool TakeReadBuffer();
  void FillRead();
  bool MayHaveHoles() const;
  bool EnsureSparseReply();
  void FindHoles();
  void BeginWrite();
  void FillEdge();
  void DecryptRead();
  DiskState DecryptSpan(uint32_t guard_slot);
  void EndDecrypted(DiskState state);
  void EncryptWrite();
  DiskState EncryptSpan(uint64_t end);
  bool StoreSpanNow();
  void MergeEdges(const xts::Cipher& cipher, size_t begin, size_t end);
  void WriteSpan();

  enum class ZeroStep : uint8_t { kMiddle, kHead, kTail, kDone };
  uint64_t ZeroBegin() const;
  uint64_t ZeroPieceBytes() const;
  void NextZeroStep();
  void RunZeroStep();
  void FillZeroEdge();
  void EncryptZeroEdge();
  void ZeroMiddle();
  void WriteZeroPiece();
  void EncryptZeroPiece();
  void OnZeroStored(int32_t result);
  bool EnsureEdgeBuffer(size_t bytes);

  void PreparePieces();
  void CacheNext();
  void OnCached(int32_t result);

  void StartStatus();
  void AskExtents();
  void OnExtents(int32_t result);

  void Submit(Phase phase, StoreOp::Kind kind, uint64_t disk_offset, uint8_t* bytes,
              uint64_t length);
  void SetOperation(StoreOp::Kind kind, uint64_t disk_offset, uint8_t* bytes, uint64_t length);
  void OnFilled();
  void OnStored(int32_t result);
  void Stored();
  void StoreFailed(int32_t result);

  /// There is no key, and `state` says why: parks or refuses.
  void LoseKey(DiskState state);
  void Decrypt(const xts::Cipher& cipher, uint8_t* bytes, size_t length, uint64_t first_unit) const;
  void DecryptEdge(const xts::Cipher& cipher, uint8_t* old, uint64_t at);

  void SetParked(bool parked);
  void ReleaseLock();
  void Finish(WireError error);
  void BuildReply(const WireError& error);
  void SetReply(const uint8_t* head_end, std::span<uint8_t> payload);
  void BuildSparseReply();
  void BuildStatusReply();
  uint8_t* PutChunkHead(uint8_t* to, wire::ChunkType chunk, uint64_t length, bool done) const;
  uint8_t* PutErrorChunk(uint8_t* to, const WireError& error) const;

  Session& session_;
  Phase phase_ = Phase::kIdle;
  Command command_ = Command::kRead;
  uint16_t type_ = 0;
  uint16_t flags_ = 0;
  uint64_t cookie_ = 0;
  uint64_t offset_bytes_ = 0;
  uint64_t length_bytes_ = 0;
  uint64_t cost_bytes_ = 0;

  // The whole sectors that the request touches.
  uint64_t span_offset_ = 0;
  uint64_t span_bytes_ = 0;
  uint32_t head_skip_ = 0;  // where the request begins in them

  Buffer buffer_;  // READ, WRITE: the span; WRITE_ZEROES without holes: a piece; or the extents
  Buffer edge_;    // old contents of partial head and tail sector; of a READ with holes its chunks
  uint32_t payload_got_ = 0;
  uint64_t cipher_done_ = 0;  // of a WRITE's span: is ciphertext
  uint64_t store_done_ = 0;   // of a WRITE's span: is in the store; at most cipher_done_
  bool filling_tail_ = false;

  bool filled_ = false;  // of a READ at kTurn: buffer_ holds the span's ciphertext already
  bool has_turn_ = false;
  bool away_ = false;
  std::optional<int32_t> fill_result_;             // of a cipher thread; none: it would wait
  DiskState decrypt_state_ = DiskState::kServing;  // the same

  ZeroStep zero_step_ = ZeroStep::kMiddle;
  uint64_t piece_next_ = 0;  // where the next piece of whole sectors begins
  uint64_t pieces_end_ = 0;
  bool zero_by_range_ = true;  // the store may still be asked to punch or zero a range

  std::array<uint8_t, kStatusPayloadBytes> status_payload_{};
  ExtentList extents_{};
  size_t holes_ = 0;  // of a READ, in edge_

  bool lock_held_ = false;
  bool parked_ = false;
  bool redo_ = false;       // what was read or decrypted meanwhile is or has to be wiped
  bool refused_ = false;    // went offline while a store operation or a grant was on its way
  bool abandoned_ = false;  // the connection is gone
  bool recorded_ = false;

  uint32_t error_ = 0;
  int64_t received_ns_ = 0;
  int64_t done_ns_ = 0;
  // An error chunk: code, length of the text, text, offset.
  static constexpr size_t kReplyHeadBytesMax =
      wire::kExtendedReplyBytes + 4 + 2 + kErrorTextBytesMax + 8;
  std::array<uint8_t, kReplyHeadBytesMax> head_{};
  std::array<iovec, 2> head_and_payload_{};
  std::span<const iovec> reply_;
  size_t reply_bytes_ = 0;
  bool reply_holds_plaintext_ = false;
};

}  // namespace keyhold

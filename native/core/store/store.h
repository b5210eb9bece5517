// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/base/result.h"
#include "core/io/ring.h"

namespace keyhold {

class Store;

/// What a store says of one range after another, in whole units of `granularity_bytes` counted from
/// the start of the range that was asked for: a hole that covers part of a unit does not count.
struct Extent {
  uint64_t length_bytes;
  uint64_t hole;  // 0 or 1
};
struct ExtentList {
  std::span<Extent> room;  // at least one; the scan ends when it is full
  uint64_t granularity_bytes;
  size_t count;  // the answer: never 0, never two alike in a row, in all not past the range
};

/// One operation on a store, embedded in the object that owns `data`. Offsets count from the start
/// of the store (a disk adds its data offset). Set the public fields, then hand it to
/// Store::Submit.
class StoreOp : public RingOp {
 public:
  enum class Kind : uint8_t {
    kRead,     // fills all of `data` or fails: a short store is -EIO, never zeros
    kWrite,    // writes all of `data` or fails
    kFlush,    // everything that was written before is stable
    kPunch,    // the range reads as zeros and its space is given back
    kZero,     // the range reads as zeros and its space stays allocated
    kCache,    // begins to read a range ahead; a hint
    kExtents,  // fills `extents` with what is known of the range, at least of its beginning
  };

  Kind kind = Kind::kRead;
  uint64_t offset_bytes = 0;
  uint8_t* data = nullptr;
  uint64_t length_bytes =
      0;  // <= kTransferBytesMax for kRead and kWrite, kCacheBytesMax for kCache
  ExtentList* extents = nullptr;

  static constexpr uint64_t kTransferBytesMax = 1U << 30;  // what one read or write call may carry
  /// What Linux reads ahead for one call: it cuts longer ones to a device's read_ahead_kb, by
  /// default 128 KiB.
  static constexpr uint64_t kCacheBytesMax = 128 * 1024;

  /// How much of a kRead or kWrite was transferred; after a failure, where it happened.
  uint64_t done_bytes() const { return done_bytes_; }

 protected:
  ~StoreOp() = default;
  /// 0, or -errno. Called by the shard's loop, never from inside Submit or SubmitOrFinish.
  virtual void OnStoreDone(int32_t result) = 0;

 private:
  friend class Store;
  void OnRingDone(int32_t result) final;

  Store* store_ = nullptr;
  Ring* ring_ = nullptr;
  uint64_t done_bytes_ = 0;
};

/// Where the ciphertext lies. Shared by all shards; every call names the ring of the calling shard.
/// kPunch and kZero may fail with -EOPNOTSUPP: the caller then writes zeros itself. kCache and
/// kExtents may, too: nothing is read ahead, nothing is known.
///
/// Faults and delays are injected by a Store that wraps another one and overrides Start, Continue
/// and RunNow.
class Store {
 public:
  virtual ~Store() = default;

  /// `op` must live until OnStoreDone; the store must too.
  void Submit(Ring& ring, StoreOp& op);
  /// Does as much as takes no waiting on the calling thread. The result when that was all of it:
  /// OnStoreDone is not called then. Else the rest is submitted.
  [[nodiscard]] std::optional<int32_t> SubmitOrFinish(Ring& ring, StoreOp& op);
  /// The same, but what would have to wait is left undone, and nothing is pending afterwards.
  [[nodiscard]] std::optional<int32_t> TryFinish(Ring& ring, StoreOp& op);

  /// Closes what is open. No operation may be pending.
  virtual void Close() = 0;
  virtual uint64_t size_bytes() const = 0;

 protected:
  /// Puts the part of `op` that is not done yet on its ring.
  virtual void Start(Ring& ring, StoreOp& op) = 0;
  /// A ring operation of `op` ended with `result`: start the next one or call Complete.
  virtual void Continue(Ring& ring, StoreOp& op, int32_t result) = 0;

  /// Does what it can of a kRead or kWrite without waiting, and counts it in done_bytes. The result
  /// when the operation is done or has failed; nothing when the ring is to go on with it.
  virtual std::optional<int32_t> RunNow(StoreOp& op) {
    (void)op;
    return std::nullopt;
  }

  static void Complete(StoreOp& op, int32_t result) { op.OnStoreDone(result); }
  static uint64_t& done_bytes(StoreOp& op) { return op.done_bytes_; }

  /// For a wrapping store: lets `inner` work on an operation of this one.
  static void StartOn(Store& inner, Ring& ring, StoreOp& op) { inner.Start(ring, op); }
  static std::optional<int32_t> RunNowOn(Store& inner, StoreOp& op) { return inner.RunNow(op); }
  static void ContinueOn(Store& inner, Ring& ring, StoreOp& op, int32_t result) {
    inner.Continue(ring, op, result);
  }

 private:
  friend class StoreOp;
  void Adopt(Ring& ring, StoreOp& op);
};

}  // namespace keyhold

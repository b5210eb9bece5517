// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "core/shard/cipher_threads.h"

namespace keyhold {

class Request;

/// The long READs that a shard has taken in and not come to yet. It works them off one by one, each
/// sent while it is in the cache; while several wait it offers the next ones to the cipher
/// threads. So a READ that is alone costs no hand-over, and whoever is free takes the next one.
class LongReads {
 public:
  /// A shorter READ is worked off where it is parsed: handing it over would cost more.
  static constexpr uint64_t kLongBytesMin = 64 * 1024;
  /// What is worked off before the shard looks at everything else again; one READ at least.
  static constexpr uint64_t kTurnBytes = 256 * 1024;
  /// Offered for each cipher thread: one that it works on when it is done, and no more, since each
  /// holds a buffer, and buffers that are used again at once are still in the cache.
  static constexpr uint32_t kOfferedPerThread = 2;

  /// `threads` may be null: then nothing is given away.
  LongReads(CipherThreads* threads, uint32_t shard) : threads_(threads), shard_(shard) {}

  /// Whether there is anybody to give READs to.
  bool helped() const { return threads_ != nullptr; }
  /// Work has something to do.
  bool waiting() const { return more_ || !waiting_.empty(); }

  void Add(Request& request);
  /// True when nobody has begun with `request`, which is then the caller's again.
  bool Withdraw(Request& request);
  /// A cipher thread gave one back.
  void GivenBack() { --offered_; }
  /// Works off what the shard does in one turn.
  void Work();
  /// The shard ends, and every request was withdrawn or runs: waits for those that run.
  void Drain();

 private:
  Request* Next();
  void OfferSome();

  CipherThreads* const threads_;
  const uint32_t shard_;
  std::deque<Request*> waiting_;
  size_t offered_ = 0;  // with the cipher threads, running ones among them
  bool more_ = false;   // a turn ended before it was known that nothing is left
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "core/base/result.h"
#include "core/disk/lease.h"
#include "core/xts/cipher.h"

namespace keyhold {

/// Stands between a disk's cipher and everyone who uses it.
///
///   EMPTY ──Install──▶ PRESENT ──Wipe──▶ EMPTY
///
/// A thread enters around each cipher call and leaves right after it. `Wipe` first makes every new
/// entry fail, then waits for those inside (microseconds: a cipher call, never I/O), then zeroes
/// the key. When it returns no thread holds or can obtain the key. Entering costs two uncontended
/// atomic operations on a cache line of the thread's own.
///
/// The handshake is Dekker's: the entrant marks its slot and then loads the cipher; the wiper
/// clears the cipher and then loads the slots. All four are sequentially consistent, so at least
/// one of the two sees the other: either the entrant finds no cipher, or the wiper waits for it.
class KeyGuard {
 public:
  static constexpr uint32_t kShardsMax = 64;  // a cache line each; far above any host we serve
  static constexpr uint32_t kCipherThreadsMax = 16;
  /// A slot for each thread that runs ciphers: the shards', then those of the cipher threads.
  static constexpr uint32_t kSlots = kShardsMax + kCipherThreadsMax;

  /// `lease` may be null: then only Wipe ends the key (restart mode).
  explicit KeyGuard(std::shared_ptr<const Lease> lease);
  ~KeyGuard();
  KeyGuard(const KeyGuard&) = delete;
  KeyGuard& operator=(const KeyGuard&) = delete;

  /// What Enter asks from here on, in place of the lease before; null as in the constructor. Calls
  /// that are inside go on: Wipe waits for them, whichever lease ends. Leases that were given live
  /// as long as the guard, since entrants look at them without counting.
  void SetLease(std::shared_ptr<const Lease> lease);
  const Lease* lease() const { return lease_.load(std::memory_order_acquire); }

  /// kState when a key is present already.
  Status Install(std::unique_ptr<xts::Cipher> cipher);

  /// Wipes the key; returns the time at which it was gone (CLOCK_BOOTTIME ns). Idempotent: a second
  /// call returns the time of the first wipe, and not before that wipe is done. May be called from
  /// any thread except inside Enter/Leave.
  int64_t Wipe();

  bool present() const;

  /// The scope of one cipher call; each thread has at most one at a time, under its slot. Falsy
  /// when there is no key or the lease has ended at `now_ns`.
  class Entry {
   public:
    Entry(Entry&& other) noexcept;
    Entry& operator=(Entry&&) = delete;
    ~Entry();
    explicit operator bool() const { return cipher_ != nullptr; }
    const xts::Cipher& cipher() const { return *cipher_; }

   private:
    friend class KeyGuard;
    Entry(KeyGuard* guard, uint32_t slot, const xts::Cipher* cipher);
    KeyGuard* guard_;
    uint32_t slot_;
    const xts::Cipher* cipher_;
  };
  Entry Enter(uint32_t slot, int64_t now_ns);

 private:
  struct alignas(64) Slot {
    std::atomic<uint32_t> inside{0};
  };
  std::atomic<const Lease*> lease_{nullptr};
  std::atomic<xts::Cipher*> cipher_{nullptr};
  std::mutex control_;  // orders Install, Wipe and SetLease; Enter never takes it
  std::vector<std::shared_ptr<const Lease>> leases_;  // all that were ever given; one per set
  int64_t wiped_at_ns_ = 0;  // 0 while a key is present and before the first wipe
  Slot slots_[kSlots];
};

}  // namespace keyhold

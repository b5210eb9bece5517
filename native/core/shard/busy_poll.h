// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace keyhold {

/// Whether a shard that has nothing to do looks for news for a while before it sleeps. To wake a
/// sleeping thread on another CPU takes 5 to 50 microseconds (most on virtual machines, whose idle
/// CPUs leave to the host), which a client with few requests in flight pays for each of them; but
/// looking takes a CPU away from others. So a shard looks only while that has been paying off:
///
///   sleeps  ──kCreditToSpin short sleeps in a row──▶  spins  ──a few misses──▶  sleeps
///
/// An idle shard, or one whose next request is far off, never spins.
class BusyPoll {
 public:
  static constexpr int kCreditToSpin = 8;
  static constexpr int kCreditMax = 16;
  static constexpr int kMissCost = 6;  // two misses in a row end it

  /// 0 or less: never.
  explicit BusyPoll(int64_t spin_ns_max) : spin_ns_max_(spin_ns_max) {}

  int64_t spin_ns_max() const { return spin_ns_max_; }
  bool ShouldSpin() const { return spin_ns_max_ > 0 && credit_ >= kCreditToSpin; }

  /// A spin ended with news, or without.
  void Spun(bool news) { Earn(news ? 1 : -kMissCost); }
  /// A sleep took so long, the time of waking included: a spin would have been shorter.
  void Slept(int64_t took_ns) { Earn(took_ns <= 2 * spin_ns_max_ ? 1 : -kMissCost); }

 private:
  void Earn(int credit) { credit_ = std::clamp(credit_ + credit, 0, kCreditMax); }

  const int64_t spin_ns_max_;
  int credit_ = 0;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace keyhold {

enum class Command : uint8_t { kRead, kWrite, kFlush, kTrim, kWriteZeroes, kCache, kBlockStatus };
inline constexpr size_t kCommands = 7;

/// Upper bounds of the latency buckets; the last bucket is +Inf. LATENCY_BUCKETS_SECONDS of
/// src/dataplane/addon.ts in nanoseconds: change both.
inline constexpr std::array<int64_t, 19> kLatencyBoundsNs = {
    10'000,        25'000,        50'000,        100'000,       250'000,
    500'000,       1'000'000,     2'500'000,     5'000'000,     10'000'000,
    25'000'000,    50'000'000,    100'000'000,   250'000'000,   500'000'000,
    1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000};
inline constexpr size_t kLatencyBuckets = kLatencyBoundsNs.size() + 1;

/// Written by one shard, read by anyone: so a plain load and store do, without a locked
/// instruction.
class Counter {
 public:
  void Add(uint64_t amount) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void Subtract(uint64_t amount) { Add(~amount + 1); }
  void Set(uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  uint64_t Get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

struct CommandCounters {
  Counter requests_ok;
  Counter requests_error;  // answered with an error other than ESHUTDOWN
  Counter requests_shutdown;
  Counter bytes;  // of successful requests
  Counter latency_sum_ns;
  std::array<Counter, kLatencyBuckets> latency_buckets;  // not cumulative
};

/// One shard's share of a disk's counters, on cache lines of its own.
struct alignas(64) ShardCounters {
  std::array<CommandCounters, kCommands> commands;
  Counter encrypted_bytes;
  Counter decrypted_bytes;
  Counter in_flight;
  Counter parked;
  Counter connections;

  /// The gauges fall to zero with the shard that kept them.
  void ResetGauges() {
    in_flight.Set(0);
    parked.Set(0);
    connections.Set(0);
  }
};

/// Index of the latency bucket of `latency_ns`: the first whose bound is not exceeded.
inline size_t LatencyBucket(int64_t latency_ns) {
  size_t index = 0;
  while (index < kLatencyBoundsNs.size() && latency_ns > kLatencyBoundsNs[index]) ++index;
  return index;
}

}  // namespace keyhold

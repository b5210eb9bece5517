// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace keyhold {

/// CLOCK_BOOTTIME in nanoseconds: counts machine suspend, which is why the lease uses it.
int64_t BootTimeNs();

/// How long the last PROOF permits keys in memory. Written by the control plane alone, read by
/// shards. A lease that was never renewed has ended.
class Lease {
 public:
  /// Deadline = `proof_start_ns` + `duration_ns` (CLOCK_BOOTTIME). Never moves the deadline back.
  /// A proof that started before the last End is ignored: it says nothing about what followed.
  void Renew(int64_t proof_start_ns, int64_t duration_ns);
  /// Ends the lease now (a confirmed DENIED).
  void End();
  int64_t deadline_ns() const { return deadline_ns_.load(std::memory_order_acquire); }
  bool Holds(int64_t now_ns) const { return now_ns < deadline_ns(); }

 private:
  std::mutex writers_;  // guards ended_at_ns_ and the order of writes; readers never take it
  int64_t ended_at_ns_ = 0;
  std::atomic<int64_t> deadline_ns_{0};
};

}  // namespace keyhold

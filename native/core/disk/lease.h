// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace keyhold {

/// CLOCK_BOOTTIME in nanoseconds: counts machine suspend, which is why the lease uses it.
int64_t BootTimeNs();

/// How long the last PROOF permits keys in memory. Written by the control plane alone, read by shards.
/// A lease that was never renewed has ended.
class Lease {
 public:
  /// Deadline = `proof_start_ns` + `duration_ns` (CLOCK_BOOTTIME). Never moves the deadline back.
  void Renew(int64_t proof_start_ns, int64_t duration_ns);
  /// Ends the lease now (a confirmed DENIED).
  void End();
  int64_t deadline_ns() const { return deadline_ns_.load(std::memory_order_acquire); }
  bool Holds(int64_t now_ns) const { return now_ns < deadline_ns(); }

 private:
  std::atomic<int64_t> deadline_ns_{0};
};

}  // namespace keyhold

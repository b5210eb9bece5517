// SPDX-License-Identifier: Apache-2.0
#include "core/disk/lease.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <limits>

namespace keyhold {

int64_t BootTimeNs() {
  timespec now{};
  if (clock_gettime(CLOCK_BOOTTIME, &now) != 0)
    std::abort();  // exists on every kernel since 2.6.39
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void Lease::Renew(int64_t proof_start_ns, int64_t duration_ns) {
  const std::lock_guard lock(writers_);
  if (proof_start_ns < ended_at_ns_) return;
  int64_t deadline = 0;
  if (__builtin_add_overflow(proof_start_ns, duration_ns, &deadline)) {
    deadline = duration_ns > 0 ? std::numeric_limits<int64_t>::max() : 0;
  }
  deadline_ns_.store(std::max(deadline, deadline_ns()), std::memory_order_release);
}

void Lease::End() {
  const std::lock_guard lock(writers_);
  ended_at_ns_ = BootTimeNs();
  deadline_ns_.store(0, std::memory_order_release);
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/disk/disk.h"

namespace keyhold {

/// Runs `use(cipher)` inside the disk's guard and returns kServing. Else returns the state that
/// explains why there is no key; `use` did not run. The loop ends: a guard that refuses while the
/// disk is kServing means that the lease ended, and then SuspendIfLeaseEnded changes the state.
template <typename Use>
DiskState WithKey(Disk& disk, uint32_t guard_slot, Use use) {
  for (;;) {
    const int64_t now_ns = BootTimeNs();
    {
      KeyGuard::Entry entry = disk.guard().Enter(guard_slot, now_ns);
      if (entry) {
        use(entry.cipher());
        return DiskState::kServing;
      }
    }
    disk.SuspendIfLeaseEnded(now_ns);
    const DiskState state = disk.state();
    if (state != DiskState::kServing) return state;
  }
}

}  // namespace keyhold

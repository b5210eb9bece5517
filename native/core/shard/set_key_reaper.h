// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/keys/set_key.h"

namespace keyhold {

/// Wipes set keys whose lease has ended, from the timers of the shards: so a hung control plane
/// cannot keep them. Process-wide, because set keys belong to no plane.
class SetKeyReaper {
 public:
  /// From now on `key` is looked at until it is wiped or gone.
  static void Register(std::weak_ptr<SetKey> key);
  static void Reap(int64_t now_ns);
};

}  // namespace keyhold

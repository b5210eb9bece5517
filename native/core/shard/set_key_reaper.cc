// SPDX-License-Identifier: Apache-2.0
#include "core/shard/set_key_reaper.h"

#include <mutex>
#include <utility>
#include <vector>

namespace keyhold {
namespace {

struct Registry {
  std::mutex mutex;  // guards `keys`; taken before a SetKey's own mutex
  std::vector<std::weak_ptr<SetKey>> keys;
};

/// Never destroyed: a shard's thread may still tick while the process exits.
Registry& TheRegistry() {
  static auto* registry = new Registry();
  return *registry;
}

}  // namespace

void SetKeyReaper::Register(std::weak_ptr<SetKey> key) {
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  registry.keys.push_back(std::move(key));
}

void SetKeyReaper::Reap(int64_t now_ns) {
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  std::erase_if(registry.keys, [now_ns](const std::weak_ptr<SetKey>& weak) {
    std::shared_ptr<SetKey> key = weak.lock();
    return key == nullptr || key->WipeIfLeaseEnded(now_ns) || key->wiped();
  });
}

}  // namespace keyhold

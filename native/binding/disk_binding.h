// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>

#include "binding/event_bridge.h"
#include "core/disk/disk.h"
#include "core/shard/plane.h"

namespace keyhold::binding {

/// A plane and the way back to the environment that made it.
struct PlaneHandle {
  std::shared_ptr<EventBridge> bridge;
  std::shared_ptr<Plane> plane;
};

/// A disk and the plane that must outlive it.
struct DiskHandle {
  std::shared_ptr<PlaneHandle> owner;
  std::shared_ptr<Disk> disk;
};

/// The constructor of NativeDisk in this environment.
Napi::Function DefineDisk(Napi::Env env);
Napi::Value MakeDisk(Napi::Env env, std::shared_ptr<DiskHandle> handle);

}  // namespace keyhold::binding

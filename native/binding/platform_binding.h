// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>

#include "core/keys/platform_key.h"

namespace keyhold::binding {

/// Adds the exports that concern the platform key and the outer layer to `exports`. After
/// RegisterKeys.
void RegisterPlatform(Napi::Env env, Napi::Object exports);

/// The core object behind a NativePlatformKey, or null with a TypeError pending.
std::shared_ptr<PlatformKey> UnwrapPlatformKey(Napi::Value value, const char* what);

}  // namespace keyhold::binding

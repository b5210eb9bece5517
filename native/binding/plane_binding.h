// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace keyhold::binding {

/// Adds createPlane and runShard, and the classes behind them, to `exports`.
void RegisterPlane(Napi::Env env, Napi::Object exports);

}  // namespace keyhold::binding

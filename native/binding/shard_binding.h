// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace keyhold::binding {

/// Adds the exports that concern the process: clock, versions, peer credentials, descriptors.
void RegisterShard(Napi::Env env, Napi::Object exports);

}  // namespace keyhold::binding

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

namespace keyhold::binding {

/// What one Node environment (the main thread, or one worker) owns: the constructors of the wrapped
/// classes. They belong to that environment alone; everything process-wide lives in the core.
struct AddonData {
  Napi::FunctionReference set_key;
  Napi::FunctionReference lease;
  Napi::FunctionReference platform_key;
  Napi::FunctionReference outer_cipher;
  Napi::FunctionReference plane;
  Napi::FunctionReference disk;

  static AddonData& Of(Napi::Env env) { return *env.GetInstanceData<AddonData>(); }
};

}  // namespace keyhold::binding

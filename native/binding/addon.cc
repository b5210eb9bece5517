// SPDX-License-Identifier: Apache-2.0
#include <napi.h>
#include <openssl/crypto.h>

#include <memory>
#include <string>

#include "binding/addon_data.h"
#include "binding/keys_binding.h"
#include "binding/plane_binding.h"
#include "binding/platform_binding.h"
#include "binding/process_binding.h"
#include "binding/shard_binding.h"

namespace keyhold::binding {
namespace {

/// The addon's OpenSSL symbols bind to Node's own copy. Node-API's promise of a stable ABI does not
/// cover them, so the major version is compared before anything else runs.
constexpr unsigned int kOpensslMajor = 3;

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const unsigned int major = OPENSSL_version_major();
  if (major != kOpensslMajor) {
    const std::string message = "load keyhold.node: built for openssl " +
                                std::to_string(kOpensslMajor) + ".x, but node carries openssl " +
                                OpenSSL_version(OPENSSL_VERSION_STRING);
    Napi::Error::New(env, message).ThrowAsJavaScriptException();
    return exports;
  }
  env.SetInstanceData(new AddonData());  // node deletes it with the environment
  RegisterProcess(env, exports);
  RegisterKeys(env, exports);
  if (!env.IsExceptionPending()) RegisterPlatform(env, exports);
  if (!env.IsExceptionPending()) RegisterPlane(env, exports);
  if (!env.IsExceptionPending()) RegisterShard(env, exports);
  return exports;
}

}  // namespace
}  // namespace keyhold::binding

static Napi::Object InitKeyhold(Napi::Env env, Napi::Object exports) {
  return keyhold::binding::Init(env, exports);
}

NODE_API_MODULE(keyhold, InitKeyhold)

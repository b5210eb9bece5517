// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>

#include "core/disk/lease.h"
#include "core/keys/set_key.h"

namespace keyhold::binding {

/// Adds the exports that concern keys and leases to `exports`.
void RegisterKeys(Napi::Env env, Napi::Object exports);

/// The native object behind a NativeSetKey or NativeLease. Anything else gives null and leaves a
/// TypeError that names `what` pending.
std::shared_ptr<SetKey> UnwrapSetKey(Napi::Value value, const char* what);
std::shared_ptr<Lease> UnwrapLease(Napi::Value value, const char* what);

/// The JavaScript object of a set key; empty with an exception pending when it cannot be made.
Napi::Value MakeSetKey(Napi::Env env, std::shared_ptr<SetKey> key);

}  // namespace keyhold::binding

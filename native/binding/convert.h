// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/peer_address.h"
#include "core/base/result.h"
#include "core/tls/facts.h"

namespace keyhold::binding {

/// The code's name without the k, as src/dataplane/addon.ts promises it: `Unseal`, `System`, …
std::string_view ErrorCodeName(ErrorCode code);

/// An Error with `nativeCode` and, for kSystem, `errnoName` (`ENOSPC`).
Napi::Error ToNapiError(Napi::Env env, const Error& error);

/// Makes `error` the pending exception.
void Throw(Napi::Env env, const Error& error);

/// Read converts a plain value; on the wrong type or range it leaves a TypeError that names `what`
/// pending and returns false, and `out` is unchanged. A span views the caller's
/// memory and is valid until control returns to JavaScript.
bool Read(Napi::Value value, std::string_view what, bool* out);
bool Read(Napi::Value value, std::string_view what, double* out);  // finite
bool Read(Napi::Value value, std::string_view what, int32_t* out);
bool Read(Napi::Value value, std::string_view what, uint32_t* out);
bool Read(Napi::Value value, std::string_view what, uint64_t* out);  // a safe integer >= 0
bool Read(Napi::Value value, std::string_view what, std::string* out);
bool Read(Napi::Value value, std::string_view what, std::span<const uint8_t>* out);  // Uint8Array
bool Read(Napi::Value value, std::string_view what, Napi::Object* out);
bool Read(Napi::Value value, std::string_view what, Napi::Function* out);

/// null and undefined read as nothing.
template <typename T>
bool Read(Napi::Value value, std::string_view what, std::optional<T>* out) {
  if (value.IsNull() || value.IsUndefined()) {
    out->reset();
    return true;
  }
  T inner{};
  if (!Read(value, what, &inner)) return false;
  *out = std::move(inner);
  return true;
}

/// Argument `index` of a call; a missing one is undefined.
template <typename T>
bool ReadArgument(const Napi::CallbackInfo& info, size_t index, std::string_view what, T* out) {
  return Read(info[index], what, out);
}

/// Field `name` of a plain object. The facade builds these objects itself, so that no getter of a
/// user runs here (STYLE.md section 7); an exception is honoured all the same.
template <typename T>
bool ReadField(Napi::Object object, const char* name, T* out) {
  const Napi::MaybeOrValue<Napi::Value> value = object.Get(name);
  if (object.Env().IsExceptionPending()) return false;
  return Read(value, name, out);
}

/// A PeerAddress of src/nbd/peer.ts.
Napi::Object ToObject(Napi::Env env, const PeerAddress& peer);
/// TlsFacts of the same file.
Napi::Object ToObject(Napi::Env env, const TlsFacts& facts);

/// A fresh Uint8Array that holds a copy.
Napi::Uint8Array CopyBytes(Napi::Env env, std::span<const uint8_t> bytes);

}  // namespace keyhold::binding

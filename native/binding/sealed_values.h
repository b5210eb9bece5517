// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <vector>

#include "binding/convert.h"
#include "core/keys/dek.h"
#include "core/keys/seal.h"

namespace keyhold::binding {

/// Field `name` of `object`, a Uint8Array of exactly `to.size()` bytes.
template <size_t kBytes>
bool ReadExactly(Napi::Object object, const char* name, std::array<uint8_t, kBytes>* to) {
  std::span<const uint8_t> bytes;
  if (!ReadField(object, name, &bytes)) return false;
  if (bytes.size() != kBytes) {
    Throw(object.Env(), Error{ErrorCode::kInvalidArgument, 0,
                              std::string(name) + ": has " + std::to_string(bytes.size()) +
                                  " bytes, " + std::to_string(kBytes) + " are needed"});
    return false;
  }
  std::copy(bytes.begin(), bytes.end(), to->begin());
  return true;
}

/// `{ nonce, ciphertext, tag }`; a TypeError that names `what` when it is no object.
template <size_t kBytes>
bool ReadSealed(Napi::Value value, std::string_view what, Sealed<kBytes>* out) {
  Napi::Object object;
  return Read(value, what, &object) && ReadExactly(object, "nonce", &out->nonce) &&
         ReadExactly(object, "ciphertext", &out->ciphertext) &&
         ReadExactly(object, "tag", &out->tag);
}

/// `{ salt, iterations, digest }`.
inline bool ReadDigest(Napi::Value value, std::string_view what, DekDigest* out) {
  Napi::Object object;
  return Read(value, what, &object) && ReadExactly(object, "salt", &out->salt) &&
         ReadField(object, "iterations", &out->iterations) &&
         ReadExactly(object, "digest", &out->digest);
}

/// The arguments of `exportDek(sealed, aad, digest, path)`, copied: the work is done elsewhere.
struct DekExport {
  SealedDek sealed{};
  std::vector<uint8_t> aad;
  DekDigest digest{};
  std::string path;
};

inline bool ReadExport(const Napi::CallbackInfo& info, DekExport* out) {
  std::span<const uint8_t> aad;  // the view of the caller's bytes last, as in Unlock
  if (!ReadSealed(info[0], "sealed", &out->sealed) ||
      !ReadDigest(info[2], "digest", &out->digest) || !ReadArgument(info, 3, "path", &out->path) ||
      !ReadArgument(info, 1, "aad", &aad)) {
    return false;
  }
  out->aad.assign(aad.begin(), aad.end());
  return true;
}

template <size_t kBytes>
Napi::Object ToObject(Napi::Env env, const Sealed<kBytes>& sealed) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("nonce", CopyBytes(env, sealed.nonce));
  object.Set("ciphertext", CopyBytes(env, sealed.ciphertext));
  object.Set("tag", CopyBytes(env, sealed.tag));
  return object;
}

/// `{ sealed, digest }`.
inline Napi::Object ToObject(Napi::Env env, const NewDek& dek) {
  Napi::Object digest = Napi::Object::New(env);
  digest.Set("salt", CopyBytes(env, dek.digest.salt));
  digest.Set("iterations", Napi::Number::New(env, dek.digest.iterations));
  digest.Set("digest", CopyBytes(env, dek.digest.digest));
  Napi::Object object = Napi::Object::New(env);
  object.Set("sealed", ToObject(env, dek.sealed));
  object.Set("digest", digest);
  return object;
}

}  // namespace keyhold::binding

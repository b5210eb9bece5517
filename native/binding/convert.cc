// SPDX-License-Identifier: Apache-2.0
#include "binding/convert.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace keyhold::binding {
namespace {

constexpr double kSafeIntegerMax = 9007199254740991.0;  // 2^53 - 1, Number.MAX_SAFE_INTEGER

bool Refuse(Napi::Env env, std::string_view what, std::string_view expected) {
  std::string message(what);
  message.append(": expected ").append(expected);
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return false;
}

/// An integer in [min, max], or a pending TypeError.
bool ReadInteger(Napi::Value value, std::string_view what, double min, double max, double* out) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= min && number <= max) || std::trunc(number) != number) {
    char range[96];
    std::snprintf(range, sizeof range, "an integer from %.0f to %.0f", min, max);
    return Refuse(value.Env(), what, range);
  }
  *out = number;
  return true;
}

}  // namespace

std::string_view ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return "InvalidArgument";
    case ErrorCode::kSystem:
      return "System";
    case ErrorCode::kNoMemory:
      return "NoMemory";
    case ErrorCode::kCrypto:
      return "Crypto";
    case ErrorCode::kUnseal:
      return "Unseal";
    case ErrorCode::kDigest:
      return "Digest";
    case ErrorCode::kKeyWiped:
      return "KeyWiped";
    case ErrorCode::kTimeout:
      return "Timeout";
    case ErrorCode::kState:
      return "State";
    case ErrorCode::kClosed:
      return "Closed";
    case ErrorCode::kStoreSize:
      return "StoreSize";
    case ErrorCode::kStoreDirect:
      return "StoreDirect";
  }
  std::abort();
}

Napi::Error ToNapiError(Napi::Env env, const Error& error) {
  Napi::Error result = Napi::Error::New(env, error.message);
  Napi::Object value = result.Value();
  const std::string_view name = ErrorCodeName(error.code);
  value.Set("nativeCode", Napi::String::New(env, name.data(), name.size()));
  if (error.code == ErrorCode::kSystem) {
    const char* symbol = strerrorname_np(error.errno_value);
    value.Set("errnoName", Napi::String::New(env, symbol != nullptr ? symbol : "EUNKNOWN"));
  }
  return result;
}

void Throw(Napi::Env env, const Error& error) {
  ToNapiError(env, error).ThrowAsJavaScriptException();
}

bool Read(Napi::Value value, std::string_view what, bool* out) {
  if (!value.IsBoolean()) return Refuse(value.Env(), what, "a boolean");
  *out = value.As<Napi::Boolean>().Value();
  return true;
}

bool Read(Napi::Value value, std::string_view what, double* out) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!std::isfinite(number)) return Refuse(value.Env(), what, "a finite number");
  *out = number;
  return true;
}

bool Read(Napi::Value value, std::string_view what, int32_t* out) {
  constexpr double kMin = std::numeric_limits<int32_t>::min();
  constexpr double kMax = std::numeric_limits<int32_t>::max();
  double number = 0;
  if (!ReadInteger(value, what, kMin, kMax, &number)) return false;
  *out = static_cast<int32_t>(number);
  return true;
}

bool Read(Napi::Value value, std::string_view what, uint32_t* out) {
  constexpr double kMax = std::numeric_limits<uint32_t>::max();
  double number = 0;
  if (!ReadInteger(value, what, 0, kMax, &number)) return false;
  *out = static_cast<uint32_t>(number);
  return true;
}

bool Read(Napi::Value value, std::string_view what, uint64_t* out) {
  double number = 0;
  if (!ReadInteger(value, what, 0, kSafeIntegerMax, &number)) return false;
  *out = static_cast<uint64_t>(number);
  return true;
}

bool Read(Napi::Value value, std::string_view what, std::string* out) {
  if (!value.IsString()) return Refuse(value.Env(), what, "a string");
  std::string text = value.As<Napi::String>().Utf8Value();
  if (value.Env().IsExceptionPending()) return false;
  // The kernel would take a path for what stands before the zero byte.
  if (text.find('\0') != std::string::npos) {
    return Refuse(value.Env(), what, "a string without zero bytes");
  }
  *out = std::move(text);
  return true;
}

bool Read(Napi::Value value, std::string_view what, std::span<const uint8_t>* out) {
  // A Buffer is a Uint8Array; other views of an ArrayBuffer are refused, since their element size
  // would make the length ambiguous.
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    return Refuse(value.Env(), what, "a Uint8Array");
  }
  const auto array = value.As<Napi::Uint8Array>();
  *out = std::span<const uint8_t>(array.Data(), array.ElementLength());
  return true;
}

bool Read(Napi::Value value, std::string_view what, Napi::Object* out) {
  if (!value.IsObject()) return Refuse(value.Env(), what, "an object");
  *out = value.As<Napi::Object>();
  return true;
}

bool Read(Napi::Value value, std::string_view what, Napi::Function* out) {
  if (!value.IsFunction()) return Refuse(value.Env(), what, "a function");
  *out = value.As<Napi::Function>();
  return true;
}

Napi::Object ToObject(Napi::Env env, const PeerAddress& peer) {
  Napi::Object object = Napi::Object::New(env);
  if (peer.kind == PeerAddress::Kind::kUnix) {
    object.Set("kind", "unix");
    object.Set("pid", static_cast<int32_t>(peer.pid));
    object.Set("uid", static_cast<uint32_t>(peer.uid));
    object.Set("gid", static_cast<uint32_t>(peer.gid));
  } else {
    object.Set("kind", "tcp");
    object.Set("address", peer.address);
    object.Set("port", static_cast<uint32_t>(peer.port));
  }
  return object;
}

Napi::Object ToObject(Napi::Env env, const TlsFacts& facts) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("version", facts.version);
  object.Set("cipher", facts.cipher);
  object.Set("certificate", env.Null());
  if (facts.certificate) {
    const std::vector<std::string>& names = facts.certificate->subject_alt_names;
    Napi::Array alt_names = Napi::Array::New(env, names.size());
    for (uint32_t i = 0; i < names.size(); ++i) alt_names.Set(i, names[i]);
    Napi::Object certificate = Napi::Object::New(env);
    certificate.Set("subject", facts.certificate->subject);
    certificate.Set("subjectAltNames", alt_names);
    certificate.Set("fingerprintSha256", facts.certificate->fingerprint_sha256);
    object.Set("certificate", certificate);
  }
  object.Set("pskIdentity", env.Null());
  if (facts.psk_identity) object.Set("pskIdentity", *facts.psk_identity);
  return object;
}

Napi::Uint8Array CopyBytes(Napi::Env env, std::span<const uint8_t> bytes) {
  Napi::Uint8Array array = Napi::Uint8Array::New(env, bytes.size());
  if (!bytes.empty() && !env.IsExceptionPending()) {
    std::memcpy(array.Data(), bytes.data(), bytes.size());
  }
  return array;
}

}  // namespace keyhold::binding

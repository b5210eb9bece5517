// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace keyhold {

/// What went wrong, as a stable code that the TypeScript facade maps to an `ERR_…` string.
enum class ErrorCode {
  kInvalidArgument,  // the caller passed a value outside its documented range
  kSystem,           // a system call failed; `errno_value` says how
  kNoMemory,         // locked or ordinary memory could not be had (often RLIMIT_MEMLOCK)
  kCrypto,           // OpenSSL refused an operation that should not fail
  kUnseal,           // authenticated data is corrupt or was tampered with
  kDigest,           // the DEK is not the one that the header's digest describes
  kKeyWiped,         // the key is not in memory (wiped, never set, or its lease ended)
  kTimeout,          // a deadline passed
  kState,            // the object is not in a state that allows the call
  kClosed,           // the object was closed
  kStoreSize,        // a store is smaller than its disk
  kStoreDirect,      // a store cannot take a disk's transfers past the page cache
};

/// An error as a value. `message` is lower case, names the operation and both sides of the failed
/// comparison, and never holds key bytes.
struct Error {
  ErrorCode code;
  int errno_value = 0;
  std::string message;
};

/// A value or an Error. The core throws nothing; every fallible call returns one of these.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  /// The value; aborts when there is none, since asking is a programmer's error.
  T& value() {
    if (!ok()) std::abort();
    return *std::get_if<0>(&state_);
  }
  const T& value() const {
    if (!ok()) std::abort();
    return *std::get_if<0>(&state_);
  }
  T Take() { return std::move(value()); }

  const Error& error() const {
    if (ok()) std::abort();
    return *std::get_if<1>(&state_);
  }

 private:
  std::variant<T, Error> state_;
};

struct Unit {};
using Status = Result<Unit>;
inline Status Ok() { return Status(Unit{}); }

}  // namespace keyhold

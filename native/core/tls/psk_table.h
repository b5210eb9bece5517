// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/secret/secret_buffer.h"

namespace keyhold {

/// The pre-shared keys of a file as GnuTLS's psktool writes it and nbdkit and qemu read it: a line
/// `name:hexkey` per client; lines that begin with # and empty lines mean nothing.
class PskTable {
 public:
  static constexpr size_t kIdentitiesMax = 10'000;
  static constexpr size_t kIdentityBytesMax = 128;  // OpenSSL's bound in TLS 1.2 (PSK_MAX_IDENTITY)
  /// 128 bits are what the weakest cipher suite offers; psktool's default is 32 bytes.
  static constexpr size_t kKeyBytesMin = 16;
  static constexpr size_t kKeyBytesMax = 64;

  /// `path` is for messages, which name the line but none of its text.
  static Result<PskTable> Parse(const std::string& path, std::string_view text);

  bool empty() const { return keys_.empty(); }
  /// Null when there is no such name.
  const SecretBuffer* Find(std::string_view identity) const;

 private:
  std::map<std::string, SecretBuffer, std::less<>> keys_;
};

}  // namespace keyhold

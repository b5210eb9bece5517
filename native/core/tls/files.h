// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/secret/secret_buffer.h"

namespace keyhold {

/// A certificate with its chain, a key or a list of pre-shared keys is a few KiB; ten thousand
/// pre-shared keys are below this.
inline constexpr size_t kTlsFileBytesMax = 1U << 20;  // also the most that a SecretBuffer takes

/// The bytes of a file that holds TLS material, in secret memory.
class TlsFile {
 public:
  /// `what` names the file's part in messages ("key file"). A `secret` file is refused, as ssh does
  /// it, when others can read it, or its group while it belongs to this process's user: a key of
  /// root's may be lent to a service through the group.
  static Result<TlsFile> Read(const char* what, const std::string& path, bool secret);

  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.bytes().data()), bytes_.size_bytes()};
  }

 private:
  SecretBuffer bytes_;
};

}  // namespace keyhold

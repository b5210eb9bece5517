// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/result.h"

namespace keyhold {

/// Writes `key` to `path`, where nothing may be, not even a symbolic link: mode 0600 whatever the
/// umask, file and directory made durable. Errors name `operation`, which names the path; on error
/// no file of this call is left. Goes straight from the caller's memory to the kernel.
Status WriteNewKeyFile(const std::string& operation, const std::string& path,
                       std::span<const uint8_t> key);

}  // namespace keyhold

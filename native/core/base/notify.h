// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace keyhold {

/// How long a service manager that reads nothing may keep the sender waiting: it is the thread that
/// renews leases.
inline constexpr int64_t kNotifyWaitNsMax = 200'000'000;

/// Sends `state`, lines of NAME=VALUE, as one datagram to the socket of $NOTIFY_SOCKET, which is a
/// path or, with '@' in front, a name in the abstract namespace (sd_notify(3)). kInvalidArgument
/// for an address that is neither, or too long; kSystem when nobody is there or nobody reads.
Status NotifyServiceManager(const std::string& socket_path, std::string_view state);

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace keyhold {

/// What carries the operations of a Ring.
enum class Engine : uint8_t { kUring, kEpoll };

/// As in the setting `[data_plane] engine`.
std::string_view EngineName(Engine engine);

struct EngineChoice {
  Engine engine;
  std::string why;        // for the log
  bool fallback = false;  // "auto" did not get its first choice
};

/// `setting` is "auto", "io_uring" or "epoll"; kInvalidArgument when it is none of them. "auto"
/// takes epoll where so many rings of io_uring are refused for a reason that lies in the host, and
/// fails for any other reason; "io_uring" fails for both.
Result<EngineChoice> ChooseEngine(const std::string& setting, uint32_t rings);

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/io/engine.h"

#include <cerrno>

#include "core/io/uring_ring.h"

namespace keyhold {
namespace {

/// What a host without io_uring says; null for everything else, which another engine would not
/// heal (too many open files, say).
const char* WhyForbidden(int errno_value) {
  switch (errno_value) {
    case ENOSYS:
      return "the kernel has no io_uring, or a seccomp filter hides it";
    case EPERM:
    case EACCES:
      return "a seccomp filter, kernel.io_uring_disabled or a security module forbids it";
    case ENOMEM:
      return "kernels before 5.12 count it as locked memory, see RLIMIT_MEMLOCK";
    case EINVAL:
      return "the kernel is older than 5.6 and lacks operations";
    default:
      return nullptr;
  }
}

}  // namespace

std::string_view EngineName(Engine engine) {
  return engine == Engine::kUring ? "io_uring" : "epoll";
}

Result<EngineChoice> ChooseEngine(const std::string& setting, uint32_t rings) {
  if (setting == "epoll") return EngineChoice{Engine::kEpoll, "the setting says so"};
  if (setting != "auto" && setting != "io_uring") {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "create the data plane with the engine \"" + setting +
                     "\": auto, io_uring and epoll are known"};
  }
  const Status probe = UringRing::Probe(rings);
  if (probe) {
    const bool automatic = setting == "auto";
    return EngineChoice{Engine::kUring, automatic ? "this host permits it" : "the setting says so"};
  }
  const char* forbidden = WhyForbidden(probe.error().errno_value);
  if (forbidden == nullptr) return probe.error();
  const std::string why = probe.error().message + " (" + forbidden + ")";
  if (setting == "auto") return EngineChoice{Engine::kEpoll, why, true};
  return Error{ErrorCode::kSystem, probe.error().errno_value,
               "create the data plane with the engine \"io_uring\": " + why};
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/io/unique_fd.h"

namespace keyhold::test {

/// Runs `body` on a thread of its own. Filters cannot be taken back: they end with the thread.
void OnAnotherThread(const std::function<void()>& body);

/// From here on the call fails with `errno_value` on this thread and those that it starts.
void ForbidSyscall(long number, int errno_value);

/// Holds every use of one system call by this thread, and by those that it starts, until the test
/// lets it go on: a file that hangs, when the test wants it to.
class HeldSyscall {
 public:
  explicit HeldSyscall(long number);
  /// Waits until so many more calls are held.
  void WaitForCalls(size_t count);
  /// Lets those go on that were waited for.
  void Release();

 private:
  UniqueFd listener_;
  std::vector<uint64_t> held_;
};

}  // namespace keyhold::test

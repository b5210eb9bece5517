// SPDX-License-Identifier: Apache-2.0
#include "test/syscall_filter.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace keyhold::test {
namespace {

[[noreturn]] void GiveUp(const char* operation) {
  std::perror(operation);
  std::abort();
}

/// Has `action` taken on every use of a call; returns what seccomp returns.
int Filter(long number, unsigned action, unsigned flags) {
  std::array<sock_filter, 4> code{{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const long result = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  if (result < 0) GiveUp("install a filter");
  return static_cast<int>(result);
}

}  // namespace

void OnAnotherThread(const std::function<void()>& body) { std::thread(body).join(); }

void ForbidSyscall(long number, int errno_value) {
  Filter(number, SECCOMP_RET_ERRNO | static_cast<unsigned>(errno_value), 0);
}

HeldSyscall::HeldSyscall(long number)
    // Without the second flag a signal (a stopped process suffices) makes the held thread begin its
    // call anew, and the id that was received would name nothing any more.
    : listener_(Filter(number, SECCOMP_RET_USER_NOTIF,
                       SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)) {
}

void HeldSyscall::WaitForCalls(size_t count) {
  while (count > 0) {
    seccomp_notif call{};
    if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &call) == 0) {
      held_.push_back(call.id);
      --count;
    } else if (errno != EINTR && errno != ENOENT) {  // of us, or of the call before it was received
      GiveUp("wait for a call");
    }
  }
}

void HeldSyscall::Release() {
  for (uint64_t id : held_) {
    seccomp_notif_resp answer{};
    answer.id = id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer) != 0) {
      GiveUp("let a held call go on");
    }
  }
  held_.clear();
}

}  // namespace keyhold::test

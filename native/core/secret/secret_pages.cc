// SPDX-License-Identifier: Apache-2.0
#include "core/secret/secret_pages.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace keyhold::secret {
namespace {

#ifndef SYS_memfd_secret
constexpr long kSysMemfdSecret = 447;  // the same number on every architecture
#else
constexpr long kSysMemfdSecret = SYS_memfd_secret;
#endif

size_t PageBytes() {
  static const auto kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return kPage;
}

int OpenMemfdSecret() { return static_cast<int>(syscall(kSysMemfdSecret, O_CLOEXEC)); }

/// memfd_secret defends against what mlock cannot: its pages leave the kernel's direct map, so
/// ptrace, gcore, /proc/PID/mem, crash dumps and kernel reads through get_user_pages find nothing,
/// and they are never swapped, dumped or hibernated. For the same reason they cannot serve O_DIRECT
/// or io_uring's registered buffers. MADV_DONTFORK keeps them out of children. Returns 0 or an
/// errno.
int MapMemfdSecret(uint8_t* address, size_t bytes) {
  const int fd = OpenMemfdSecret();
  if (fd < 0) return errno;
  int error = 0;
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    error = errno;
  } else if (mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd,
                  0) == MAP_FAILED) {
    error = errno;
  } else if (madvise(address, bytes, MADV_DONTFORK) != 0) {
    error = errno;
  }
  close(fd);  // the mapping keeps the pages
  return error;
}

/// The fallback. mlock: never written to swap. MADV_DONTDUMP: not in a core dump that the kernel
/// writes. MADV_WIPEONFORK: a child sees zeros. A debugger with ptrace rights can still read it.
/// Returns 0 or an errno.
int MapLocked(uint8_t* address, size_t bytes) {
  // Also replaces what a failed attempt of MapMemfdSecret may have left at this address.
  if (mmap(address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
           0) == MAP_FAILED) {
    return errno;
  }
  // mlock2 without flags is mlock; unlike that, no sanitizer replaces it with nothing.
  if (mlock2(address, bytes, 0) != 0) return errno;
  if (madvise(address, bytes, MADV_DONTDUMP) != 0) return errno;
  if (madvise(address, bytes, MADV_WIPEONFORK) != 0) return errno;
  return 0;
}

Error LockedMemoryError(size_t bytes, int error) {
  std::string message = "lock " + std::to_string(bytes) + " bytes of secret memory: ";
  rlimit limit{};
  // These three are what mlock gives when the limit stands in the way (mlock(2)), the third only
  // when it is 0: else a filter of system calls forbids it, as of a container.
  bool limited = error == ENOMEM || error == EAGAIN || error == EPERM;
  limited = limited && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (limited && error == EPERM && limit.rlim_cur != 0) {
    message += "mlock is not permitted here, whatever RLIMIT_MEMLOCK";
  } else if (limited) {
    message += "RLIMIT_MEMLOCK is " + std::to_string(limit.rlim_cur) + " bytes";
  } else {
    message += strerrordesc_np(error);
  }
  return Error{ErrorCode::kNoMemory, error, message};
}

}  // namespace

Result<SecretPages> MapSecretPages(size_t bytes) {
  const size_t page = PageBytes();
  SecretPages pages;
  pages.data_bytes = (bytes + page - 1) / page * page;
  pages.base_bytes = pages.data_bytes + 2 * page;
  // The guards turn an overrun of a neighbouring object, in either direction, into a fault.
  void* base = mmap(nullptr, pages.base_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return Error{
        ErrorCode::kNoMemory, errno,
        "reserve " + std::to_string(pages.base_bytes) + " bytes of address space for secrets"};
  }
  pages.base = static_cast<uint8_t*>(base);
  pages.data = pages.base + page;

  int error = MapMemfdSecret(pages.data, pages.data_bytes);
  if (error != 0) error = MapLocked(pages.data, pages.data_bytes);
  if (error != 0) {
    munmap(pages.base, pages.base_bytes);
    return LockedMemoryError(pages.data_bytes, error);
  }
  return pages;
}

void UnmapSecretPages(const SecretPages& pages) {
  explicit_bzero(pages.data, pages.data_bytes);
  munmap(pages.base, pages.base_bytes);
}

bool HasMemfdSecret() {
  const int fd = OpenMemfdSecret();
  if (fd < 0) return false;
  close(fd);
  return true;
}

}  // namespace keyhold::secret

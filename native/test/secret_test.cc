// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "core/secret/secret_arena.h"
#include "core/secret/secret_buffer.h"
#include "core/secret/secret_pages.h"
#include "test/syscall_filter.h"

namespace keyhold {
namespace {

constexpr size_t kLarge = secret::kPooledBytesMax + 1;  // the smallest size with its own mapping

bool AllBytesAre(std::span<const uint8_t> bytes, uint8_t value) {
  return std::all_of(bytes.begin(), bytes.end(), [value](uint8_t byte) { return byte == value; });
}

SecretBuffer Filled(size_t size_bytes, uint8_t value) {
  SecretBuffer buffer = SecretBuffer::Allocate(size_bytes).Take();
  std::memset(buffer.bytes().data(), value, size_bytes);
  return buffer;
}

TEST(SecretBuffer, IsZeroedWritableAndAlignedTo64InEverySize) {
  for (const size_t size : {1U, 32U, 64U, 65U, 720U, 1025U, 2048U, 2049U, 4097U, 1048576U}) {
    auto buffer = SecretBuffer::Allocate(size);
    ASSERT_TRUE(buffer.ok()) << size;
    EXPECT_EQ(buffer.value().size_bytes(), size);
    EXPECT_TRUE(AllBytesAre(buffer.value().bytes(), 0)) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.value().bytes().data()) % 64, 0U) << size;
    std::memset(buffer.value().bytes().data(), 0xa5, size);
    EXPECT_TRUE(AllBytesAre(buffer.value().bytes(), 0xa5)) << size;
  }
}

TEST(SecretBuffer, RefusesNoBytes) {
  const auto buffer = SecretBuffer::Allocate(0);
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().code, ErrorCode::kInvalidArgument);
}

TEST(SecretBuffer, RefusesMoreThanOneMebibyteNamingBothSides) {
  const auto buffer = SecretBuffer::Allocate(1048577);
  ASSERT_FALSE(buffer.ok());
  EXPECT_EQ(buffer.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(buffer.error().message.find("1048577"), std::string::npos);
  EXPECT_NE(buffer.error().message.find("1048576"), std::string::npos);
}

TEST(SecretBuffer, WipeZeroesAndLeavesTheBufferUsable) {
  for (const size_t size : {size_t{48}, kLarge}) {
    SecretBuffer buffer = Filled(size, 0xff);
    buffer.Wipe();
    buffer.Wipe();
    EXPECT_TRUE(AllBytesAre(buffer.bytes(), 0));
    buffer.bytes()[0] = 1;
    EXPECT_EQ(buffer.bytes()[0], 1);
  }
}

TEST(SecretBuffer, WipeOfAnEmptyBufferDoesNothing) {
  SecretBuffer buffer;
  buffer.Wipe();
  EXPECT_TRUE(buffer.empty());
}

TEST(SecretBuffer, MovingLeavesTheSourceEmpty) {
  for (const size_t size : {size_t{48}, kLarge}) {
    SecretBuffer source = Filled(size, 7);
    SecretBuffer target(std::move(source));
    EXPECT_TRUE(source.empty());  // NOLINT(bugprone-use-after-move): that is the claim
    EXPECT_TRUE(AllBytesAre(target.bytes(), 7));
    SecretBuffer assigned = Filled(16, 1);
    assigned = std::move(target);
    EXPECT_EQ(assigned.size_bytes(), size);
    EXPECT_TRUE(AllBytesAre(assigned.bytes(), 7));
  }
}

TEST(SecretBuffer, MovingToItselfKeepsTheBytes) {
  SecretBuffer buffer = Filled(48, 9);
  SecretBuffer& same = buffer;
  buffer = std::move(same);
  ASSERT_EQ(buffer.size_bytes(), 48U);
  EXPECT_TRUE(AllBytesAre(buffer.bytes(), 9));
}

TEST(SecretArena, HandsOutAGivenBackSlotZeroed) {
  const uint8_t* address = nullptr;
  {
    SecretBuffer buffer = Filled(500, 0xee);
    address = buffer.bytes().data();
  }
  const SecretBuffer again = SecretBuffer::Allocate(500).Take();
  EXPECT_EQ(again.bytes().data(), address) << "the arena should reuse the slot given back last";
  EXPECT_TRUE(AllBytesAre(again.bytes(), 0));
}

TEST(SecretArena, HoldsAThousandSchedulesInFewMappingsAndGivesThemBack) {
  const size_t before = secret::SecretArena::Instance().mappings();
  {
    std::vector<SecretBuffer> schedules;
    for (int i = 0; i < 1000; ++i) {
      auto schedule = SecretBuffer::Allocate(720);
      ASSERT_TRUE(schedule.ok()) << schedule.error().message;
      std::memset(schedule.value().bytes().data(), i & 0xff, 720);
      schedules.push_back(schedule.Take());
    }
    EXPECT_LE(secret::SecretArena::Instance().mappings(), before + 12);
    for (size_t i = 0; i < schedules.size(); ++i) {
      ASSERT_TRUE(AllBytesAre(schedules[i].bytes(), static_cast<uint8_t>(i))) << i;
    }
  }
  EXPECT_LE(secret::SecretArena::Instance().mappings(), before + 1);
}

TEST(SecretBufferDeathTest, AGuardPageStandsBeforeAndAfter) {
  const auto pages = secret::MapSecretPages(1);
  ASSERT_TRUE(pages.ok());
  volatile uint8_t* const data = pages.value().data;
  const size_t bytes = pages.value().data_bytes;
  EXPECT_DEATH(data[bytes] = 1, "");
  EXPECT_DEATH(*(data - 1) = 1, "");
  secret::UnmapSecretPages(pages.value());
}

TEST(SecretBuffer, AChildProcessSeesNoByte) {
  const SecretBuffer buffer = Filled(64, 0x77);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Unmapped (memfd_secret) or zeroed (mlock): the pipe's write fails, or carries no byte of
    // ours.
    int ends[2];
    uint8_t seen = 0;
    if (pipe(ends) != 0) _exit(2);
    const bool readable = write(ends[1], buffer.bytes().data(), 1) == 1;
    if (readable && read(ends[0], &seen, 1) != 1) _exit(2);
    _exit(seen == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

/// Runs in a child: lowers the limit, drops the capability that would lift it, allocates.
void AllocateUnderLimit(rlim_t limit_bytes) {
  const rlimit limit{limit_bytes, limit_bytes};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(2);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) _exit(2);
  const auto buffer = SecretBuffer::Allocate(size_t{256} * 1024);
  if (buffer.ok()) _exit(3);
  std::fprintf(stderr, "%s\n", buffer.error().message.c_str());
  _exit(buffer.error().code == ErrorCode::kNoMemory ? 0 : 4);
}

TEST(SecretBufferDeathTest, NamesTheLimitThatStandsInTheWay) {
  EXPECT_EXIT(AllocateUnderLimit(65536), ::testing::ExitedWithCode(0),
              "lock 262144 bytes of secret memory: RLIMIT_MEMLOCK is 65536 bytes");
}

TEST(SecretBufferDeathTest, NamesALimitOfZero) {
  EXPECT_EXIT(AllocateUnderLimit(0), ::testing::ExitedWithCode(0), "RLIMIT_MEMLOCK is 0 bytes");
}

/// Runs in a child: a container whose filter lets nobody lock memory, though the limit would.
void AllocateUnderAFilter() {
  test::ForbidSyscall(SYS_memfd_secret, EPERM);
  test::ForbidSyscall(SYS_mlock, EPERM);
  test::ForbidSyscall(SYS_mlock2, EPERM);
  const rlimit limit{1 << 20, 1 << 20};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) _exit(2);
  const auto buffer = SecretBuffer::Allocate(size_t{256} * 1024);
  if (buffer.ok()) _exit(3);
  std::fprintf(stderr, "%s\n", buffer.error().message.c_str());
  _exit(buffer.error().code == ErrorCode::kNoMemory ? 0 : 4);
}

TEST(SecretBufferDeathTest, DoesNotBlameTheLimitForAFilter) {
  EXPECT_EXIT(AllocateUnderAFilter(), ::testing::ExitedWithCode(0),
              "lock 262144 bytes of secret memory: mlock is not permitted here");
}

/// The flags of the mapping that holds `address` (proc_pid_smaps(5)): lo locked, dd not dumped, wf
/// wiped on fork.
std::string FlagsOfMapping(const void* address) {
  std::ifstream smaps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    unsigned long start = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2) {
      const auto at = reinterpret_cast<unsigned long>(address);
      inside = at >= start && at < end;
    } else if (inside && line.rfind("VmFlags:", 0) == 0) {
      return line + " ";
    }
  }
  return "";
}

/// Runs in a child: a kernel without memfd_secret, as seccomp makes it.
void AllocateWithoutMemfdSecret() {
  constexpr long kMemfdSecret = 447;
  test::ForbidSyscall(kMemfdSecret, ENOSYS);
  if (secret::HasMemfdSecret()) _exit(3);
  SecretBuffer buffer = Filled(kLarge, 0x21);
  const std::string flags = FlagsOfMapping(buffer.bytes().data());
  for (const char* flag : {" lo ", " dd ", " wf "}) {
    if (flags.find(flag) == std::string::npos) {
      std::fprintf(stderr, "%s lacks%s\n", flags.c_str(), flag);
      _exit(4);
    }
  }
  _exit(0);
}

TEST(SecretBufferDeathTest, WithoutMemfdSecretPagesAreLockedUndumpedAndWipedOnFork) {
  EXPECT_EXIT(AllocateWithoutMemfdSecret(), ::testing::ExitedWithCode(0), "");
}

TEST(SecretEqual, ComparesContentAndLength) {
  const uint8_t a[] = {1, 2, 3};
  const uint8_t b[] = {1, 2, 4};
  EXPECT_TRUE(SecretEqual(a, a));
  EXPECT_FALSE(SecretEqual(a, b));
  EXPECT_FALSE(SecretEqual(a, std::span(a).first(2)));
  EXPECT_TRUE(SecretEqual({}, {}));
}

}  // namespace
}  // namespace keyhold

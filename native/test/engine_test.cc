// SPDX-License-Identifier: Apache-2.0
// Which engine a data plane gets, on hosts that forbid io_uring in every way they have.
#include "core/io/engine.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "core/shard/plane.h"
#include "test/syscall_filter.h"

namespace keyhold::test {
namespace {

/// The choice on a host where `call` fails so.
Result<EngineChoice> ChooseWithout(long call, int errno_value, const std::string& setting) {
  std::optional<Result<EngineChoice>> choice;
  OnAnotherThread([&] {
    ForbidSyscall(call, errno_value);
    choice = ChooseEngine(setting, 1);
  });
  return *choice;
}

TEST(Engine, AutoTakesIoUringWhereItWorks) {
  const EngineChoice choice = ChooseEngine("auto", 2).Take();
  EXPECT_EQ(choice.engine, Engine::kUring);
  EXPECT_FALSE(choice.fallback);
}

TEST(Engine, EpollIsTakenOnRequestThoughIoUringWorks) {
  const EngineChoice choice = ChooseEngine("epoll", 1).Take();
  EXPECT_EQ(choice.engine, Engine::kEpoll);
  EXPECT_FALSE(choice.fallback) << "it was asked for";
}

TEST(Engine, OfAnUnknownNameIsRefused) {
  for (const char* name : {"", "uring", "EPOLL", "aio"}) {
    const Result<EngineChoice> choice = ChooseEngine(name, 1);
    ASSERT_FALSE(choice.ok()) << name;
    EXPECT_EQ(choice.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Engine, AutoFallsBackWhereIoUringMayBeSetUpButNotEntered) {
  const EngineChoice choice = ChooseWithout(SYS_io_uring_enter, EPERM, "auto").Take();
  EXPECT_EQ(choice.engine, Engine::kEpoll);
  EXPECT_TRUE(choice.why.starts_with("enter io_uring: Operation not permitted")) << choice.why;
}

TEST(Engine, AutoDoesNotFallBackForAReasonThatEpollSharesWithIoUring) {
  const Result<EngineChoice> choice = ChooseWithout(SYS_io_uring_setup, EMFILE, "auto");
  ASSERT_FALSE(choice.ok());
  EXPECT_EQ(choice.error().errno_value, EMFILE);
}

TEST(Engine, APlaneThatMustHaveIoUringIsNotCreatedWithoutIt) {
  OnAnotherThread([] {
    ForbidSyscall(SYS_io_uring_setup, EPERM);
    Plane::Options options{1, "auto"};
    options.engine = "io_uring";
    const auto plane = Plane::Create(options, [](Event) {});
    ASSERT_FALSE(plane.ok());
    EXPECT_EQ(plane.error().code, ErrorCode::kSystem);
  });
}

class ForbiddenEngine : public ::testing::TestWithParam<int> {};

TEST_P(ForbiddenEngine, IsReplacedByEpollAndTheReasonIsKept) {
  const EngineChoice choice = ChooseWithout(SYS_io_uring_setup, GetParam(), "auto").Take();
  EXPECT_EQ(choice.engine, Engine::kEpoll);
  EXPECT_TRUE(choice.fallback);
  EXPECT_NE(choice.why.find(std::strerror(GetParam())), std::string::npos) << choice.why;
}

TEST_P(ForbiddenEngine, IsAnErrorThatNamesItWhenItWasAskedFor) {
  const Result<EngineChoice> choice = ChooseWithout(SYS_io_uring_setup, GetParam(), "io_uring");
  ASSERT_FALSE(choice.ok());
  EXPECT_EQ(choice.error().code, ErrorCode::kSystem);
  EXPECT_EQ(choice.error().errno_value, GetParam());
  EXPECT_NE(choice.error().message.find(std::strerror(GetParam())), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Errnos, ForbiddenEngine,
                         ::testing::Values(ENOSYS, EPERM, EACCES, ENOMEM, EINVAL));

}  // namespace
}  // namespace keyhold::test

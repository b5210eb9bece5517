// SPDX-License-Identifier: Apache-2.0
// What the service manager is told, and what happens when it does not listen.
#include "core/base/notify.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

/// Binds a datagram socket; '@' stands for the zero of the abstract namespace.
UniqueFd Listen(const std::string& where) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, where.data(), where.size());
  if (where[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + where.size());
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  return socket;
}

std::string Receive(const UniqueFd& socket) {
  char bytes[256];
  const ssize_t length = ::recv(socket.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  return length < 0 ? std::string() : std::string(bytes, static_cast<size_t>(length));
}

class Notify : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }
  void TearDown() override { std::filesystem::remove(path_); }
  const std::string path_ = "/tmp/keyhold-notify-" + std::to_string(::getpid());
};

TEST_F(Notify, ReachesASocketWithAPath) {
  const UniqueFd socket = Listen(path_);
  ASSERT_TRUE(NotifyServiceManager(path_, "READY=1\nSTATUS=fine"));
  EXPECT_EQ(Receive(socket), "READY=1\nSTATUS=fine");
}

TEST_F(Notify, ReachesAnAbstractSocket) {
  const std::string name = "@keyhold-notify-" + std::to_string(::getpid());
  const UniqueFd socket = Listen(name);
  ASSERT_TRUE(NotifyServiceManager(name, "WATCHDOG=1"));
  EXPECT_EQ(Receive(socket), "WATCHDOG=1");
}

TEST_F(Notify, AnAddressThatIsNoneIsRefused) {
  for (const std::string where : {"", "/", "@", "notify", "vsock:2:1234"}) {
    const Status sent = NotifyServiceManager(where, "READY=1");
    ASSERT_FALSE(sent) << where;
    EXPECT_EQ(sent.error().code, ErrorCode::kInvalidArgument) << where;
  }
}

TEST_F(Notify, AnAddressThatIsTooLongIsRefusedWithBothLengths) {
  const Status sent = NotifyServiceManager("/" + std::string(107, 'n'), "READY=1");
  ASSERT_FALSE(sent);
  EXPECT_NE(sent.error().message.find("at most 107 bytes, got 108"), std::string::npos)
      << sent.error().message;
}

TEST_F(Notify, ASocketThatIsNotThereIsAnError) {
  const Status sent = NotifyServiceManager(path_, "READY=1");
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().errno_value, ENOENT);
}

TEST_F(Notify, ASocketThatNobodyServesAnyMoreIsAnError) {
  Listen(path_).Reset();
  const Status sent = NotifyServiceManager(path_, "READY=1");
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().errno_value, ECONNREFUSED);
}

TEST_F(Notify, AManagerThatReadsNothingKeepsTheSenderForABoundedTime) {
  const UniqueFd socket = Listen(path_);
  Status sent = Ok();
  for (int i = 0; i < 10'000 && sent; ++i) sent = NotifyServiceManager(path_, "WATCHDOG=1");
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().errno_value, EAGAIN);
}

TEST(ShardTicks, GoOnWhileAShardIsIdle) {
  TestPlane plane(1);
  const uint64_t before = plane.plane().ShardTicks().at(0);
  EXPECT_TRUE(Eventually([&] { return plane.plane().ShardTicks().at(0) > before + 2; }));
}

TEST(ShardTicks, StandStillWhileAShardIsStuckAndOthersGoOn) {
  TestPlane plane(2);
  ASSERT_TRUE(Eventually([&] { return plane.plane().ShardTicks().at(0) > 0; }));
  plane.plane().StallShardForTest(0, 2'000'000'000);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const std::vector<uint64_t> stuck = plane.plane().ShardTicks();
  EXPECT_TRUE(Eventually([&] { return plane.plane().ShardTicks().at(1) > stuck.at(1) + 2; }));
  EXPECT_EQ(plane.plane().ShardTicks().at(0), stuck.at(0));
  EXPECT_TRUE(Eventually([&] { return plane.plane().ShardTicks().at(0) > stuck.at(0); }));
}

TEST(ShardTicks, OfAShardThatDoesNotExistIsNotAsked) {
  TestPlane plane(1);
  plane.plane().StallShardForTest(7, 1'000'000'000'000);
  EXPECT_EQ(plane.plane().ShardTicks().size(), 1U);
}

}  // namespace
}  // namespace keyhold::test

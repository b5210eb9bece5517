// SPDX-License-Identifier: Apache-2.0
// Listening sockets that somebody else bound.
#include "core/base/listening_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

UniqueFd UnixSocket(const std::string& path, int type = SOCK_STREAM) {
  UniqueFd socket(::socket(AF_UNIX, type, 0));
  const sockaddr_un address = AddressOf(path);
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return socket;
}

UniqueFd UnixListener(const std::string& path) {
  UniqueFd socket = UnixSocket(path);
  EXPECT_EQ(::listen(socket.get(), 8), 0);
  return socket;
}

UniqueFd ConnectTo(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  const sockaddr_un address = AddressOf(path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    socket.Reset();
  }
  return socket;
}

void ExpectRefused(int fd, const std::string& found) {
  const Result<ListeningAddress> address = InspectListeningFd(fd);
  ASSERT_FALSE(address.ok()) << found;
  EXPECT_EQ(address.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(address.error().message, "take over fd " + std::to_string(fd) +
                                         ": expected a listening stream socket, got " + found);
}

TEST(ListeningFd, NamesWhatADescriptorIsInstead) {
  TempDirectory directory;
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const UniqueFd read_end(pipe_fds[0]);
  const UniqueFd write_end(pipe_fds[1]);
  const UniqueFd file(::open(directory.File("file").c_str(), O_CREAT | O_RDWR, 0600));
  const UniqueFd device(::open("/dev/null", O_RDONLY));
  const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY));
  const UniqueFd datagram = UnixSocket(directory.File("dgram"), SOCK_DGRAM);
  const UniqueFd packet = UnixSocket(directory.File("packet"), SOCK_SEQPACKET);
  const UniqueFd idle = UnixSocket(directory.File("idle"));
  ExpectRefused(read_end.get(), "a pipe");
  ExpectRefused(file.get(), "a regular file");
  ExpectRefused(device.get(), "a character device");
  ExpectRefused(folder.get(), "a directory");
  ExpectRefused(datagram.get(), "a datagram socket");
  ExpectRefused(packet.get(), "a sequential-packet socket");
  ExpectRefused(idle.get(), "a stream socket that does not listen");
  ExpectRefused(-1, "a descriptor that is not open");
  ExpectRefused(1'000'000, "a descriptor that is not open");
}

TEST(ListeningFd, RefusesAConnectedSocket) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd one(pair[0]);
  const UniqueFd other(pair[1]);
  ExpectRefused(one.get(), "a stream socket that does not listen");
}

TEST(ListeningFd, TellsPathOrAddress) {
  TempDirectory directory;
  const std::string path = directory.File("nbd.sock");
  const UniqueFd unix_fd = UnixListener(path);
  EXPECT_TRUE(InspectListeningFd(unix_fd.get()).value().is_unix);
  EXPECT_EQ(InspectListeningFd(unix_fd.get()).value().path, path);
  UniqueFd abstract_fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  const sa_family_t family = AF_UNIX;  // alone: the kernel picks an abstract name of five digits
  ASSERT_EQ(::bind(abstract_fd.get(), reinterpret_cast<const sockaddr*>(&family), sizeof family),
            0);
  ASSERT_EQ(::listen(abstract_fd.get(), 1), 0);
  EXPECT_EQ(InspectListeningFd(abstract_fd.get()).value().path.size(), 6U);
  EXPECT_EQ(InspectListeningFd(abstract_fd.get()).value().path[0], '@');
  UniqueFd tcp_fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::bind(tcp_fd.get(), reinterpret_cast<sockaddr*>(&loopback), sizeof loopback), 0);
  ASSERT_EQ(::listen(tcp_fd.get(), 1), 0);
  const ListeningAddress tcp = InspectListeningFd(tcp_fd.get()).value();
  EXPECT_FALSE(tcp.is_unix);
  EXPECT_EQ(tcp.host, "127.0.0.1");
  EXPECT_GT(tcp.port, 0);
}

TEST(ListeningFd, OnceClaimedBelongsToNoChild) {
  TempDirectory directory;
  const UniqueFd socket = UnixListener(directory.File("nbd.sock"));
  ASSERT_EQ(::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_TRUE(ClaimListeningFd(socket.get()).ok());
  EXPECT_EQ(::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(AdoptedListener, ServesClientsAlsoWhenItWasNonBlocking) {
  TempDirectory directory;
  TestPlane plane;
  const std::string path = directory.File("nbd.sock");
  const UniqueFd holder = UnixListener(path);
  ASSERT_EQ(::fcntl(holder.get(), F_SETFL, O_NONBLOCK), 0);
  const uint32_t id = plane.plane().AdoptListener(::dup(holder.get())).value();
  const UniqueFd client = ConnectTo(path);
  const std::optional<NegotiationOpen> open = plane.WaitFor<NegotiationOpen>();
  ASSERT_TRUE(open);
  EXPECT_EQ(open->listener_id, id);
  EXPECT_EQ(open->peer.uid, ::getuid());
}

TEST(AdoptedListener, IsLeftToWhoeverElseHoldsItWithTheClientsThatWait) {
  TempDirectory directory;
  const std::string path = directory.File("nbd.sock");
  const UniqueFd holder = UnixListener(path);
  {
    TestPlane first;
    ASSERT_TRUE(first.plane().AdoptListener(::dup(holder.get())).ok());
    const UniqueFd client = ConnectTo(path);
    ASSERT_TRUE(first.WaitFor<NegotiationOpen>());
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  const UniqueFd waiting = ConnectTo(path);
  ASSERT_TRUE(waiting);
  TestPlane second;
  ASSERT_TRUE(second.plane().AdoptListener(::dup(holder.get())).ok());
  EXPECT_TRUE(second.WaitFor<NegotiationOpen>());
}

TEST(AdoptedListener, StopsAcceptingWhenItIsClosed) {
  TempDirectory directory;
  TestPlane plane;
  const std::string path = directory.File("nbd.sock");
  const UniqueFd holder = UnixListener(path);
  const uint32_t id = plane.plane().AdoptListener(::dup(holder.get())).value();
  const UniqueFd before = ConnectTo(path);
  ASSERT_TRUE(plane.WaitFor<NegotiationOpen>());
  plane.plane().CloseListener(id);
  const auto open = [](const Event& event) {
    return std::holds_alternative<NegotiationOpen>(event);
  };
  // The accept that was pending may still take one; whoever comes after it waits.
  UniqueFd after;
  ASSERT_TRUE(Eventually([&] {
    after = ConnectTo(path);
    pollfd waiting{after.get(), POLLIN, 0};
    return ::poll(&waiting, 1, 50) == 0;
  }));
  EXPECT_LE(plane.CountEvents(open), 2U);
  const size_t taken = plane.CountEvents(open);
  const UniqueFd later = ConnectTo(path);
  pollfd waiting{later.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 50), 0) << "a listener once closed takes nobody";
  EXPECT_EQ(plane.CountEvents(open), taken);
}

TEST(AdoptedListener, LeavesADescriptorAloneThatItCannotUse) {
  TestPlane plane;
  const UniqueFd device(::open("/dev/null", O_RDONLY));
  EXPECT_EQ(plane.plane().AdoptListener(device.get()).error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(::fcntl(device.get(), F_GETFD), -1) << "still open";
  plane.Stop();
  EXPECT_EQ(plane.plane().AdoptListener(device.get()).error().code, ErrorCode::kClosed);
}

}  // namespace
}  // namespace keyhold::test

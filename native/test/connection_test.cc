// SPDX-License-Identifier: Apache-2.0
// What the plane knows of its connections, and how it ends one of them.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "core/base/peer_address.h"
#include "core/shard/session.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

using Connections = std::vector<Plane::ConnectionInfo>;

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}

/// Until the next refusal is told again.
void Pause() {
  std::this_thread::sleep_for(std::chrono::nanoseconds(Plane::kRefusalEventNs + 100'000'000));
}

bool Ended(TestPlane& plane, const std::string& cause) {
  return plane
      .WaitFor<ConnectionClosed>([&](const ConnectionClosed& e) { return e.cause == cause; })
      .has_value();
}

TEST(Peer, OfAnIpv4ClientOnAnIpv6SocketIsAnIpv4Address) {
  UniqueFd listener(::socket(AF_INET6, SOCK_STREAM, 0));
  if (!listener) GTEST_FAIL() << "this machine has no IPv6";
  sockaddr_in6 any{};
  any.sin6_family = AF_INET6;
  socklen_t bytes = sizeof any;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&any), &bytes), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in loopback{};
  loopback.sin_family = AF_INET;
  loopback.sin_port = any.sin6_port;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&loopback), sizeof loopback), 0);
  const UniqueFd accepted(::accept(listener.get(), nullptr, nullptr));
  const std::optional<PeerAddress> peer = ReadPeerAddress(accepted.get());
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->kind, PeerAddress::Kind::kTcp);
  EXPECT_EQ(peer->address, "127.0.0.1");
  sockaddr_in local{};
  bytes = sizeof local;
  ASSERT_EQ(::getsockname(client.get(), reinterpret_cast<sockaddr*>(&local), &bytes), 0);
  EXPECT_EQ(peer->port, ntohs(local.sin_port));
}

TEST(Peer, OfSocketsWithoutOneIsNobody) {
  UniqueFd unconnected(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_FALSE(ReadPeerAddress(unconnected.get()));
  EXPECT_FALSE(ReadPeerAddress(-1));
}

PeerAddress Tcp(const std::string& address) {
  PeerAddress peer;
  peer.kind = PeerAddress::Kind::kTcp;
  peer.address = address;
  return peer;
}

TEST(Peer, CountsAsOneByUidAddressOrNetwork) {
  PeerAddress user;
  user.uid = 1000;
  PeerAddress same_user = user;
  same_user.pid = 77;
  EXPECT_EQ(PeerKey(user), PeerKey(same_user));
  EXPECT_NE(PeerKey(user), PeerKey(PeerAddress{}));
  EXPECT_NE(PeerKey(Tcp("192.0.2.1")), PeerKey(Tcp("192.0.2.10")));
  EXPECT_EQ(PeerKey(Tcp("2001:db8::1")), PeerKey(Tcp("2001:db8:0:0:ffff::2")));
  EXPECT_NE(PeerKey(Tcp("2001:db8::1")), PeerKey(Tcp("2001:db8:0:1::1")));
}

/// A connection from 127.0.0.`host`, where each host is a peer of its own.
UniqueFd ConnectFrom(uint8_t host, uint16_t port) {
  UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + host);
  EXPECT_EQ(::bind(client.get(), reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
  here.sin_port = htons(port);
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
  return client;
}

TEST(ConnectionLimits, OnePeerCannotUseUpTheTotalAndTheTotalHolds) {
  TestPlane plane;
  const uint16_t port = plane.plane().ListenTcp("127.0.0.1", 0).value().port;
  std::vector<UniqueFd> open;
  // Nothing answers their negotiation but a close, which waits a second for the client's end; so
  // they are counted as they are opened.
  const auto opened = [](const Event& e) { return std::holds_alternative<NegotiationOpen>(e); };
  auto fill = [&](uint8_t host, uint32_t count, size_t in_all) {
    for (uint32_t i = 0; i < count; ++i) open.push_back(ConnectFrom(host, port));
    EXPECT_TRUE(Eventually([&] { return plane.CountEvents(opened) == in_all; }));
  };
  auto refused = [&](uint8_t host, const std::string& why) {
    Client excess(ConnectFrom(host, port), {});
    EXPECT_TRUE(excess.AtEnd());
    return plane
        .WaitFor<ConnectionRefused>([&](const ConnectionRefused& event) {
          return event.cause.find(why) != std::string::npos;
        })
        .has_value();
  };
  plane.AnswerNothing();
  fill(1, Plane::kConnectionsPerPeerMax, Plane::kConnectionsPerPeerMax);
  EXPECT_TRUE(refused(1, "its peer has 768 connections open"));
  fill(2, Plane::kConnectionsMax - Plane::kConnectionsPerPeerMax, Plane::kConnectionsMax);
  Pause();
  EXPECT_TRUE(refused(3, "1024 connections are open"));
  open.erase(open.begin());
  plane.plane().CloseConnection(plane.plane().Connections().front().id);
  EXPECT_TRUE(
      Eventually([&] { return plane.plane().Connections().size() == Plane::kConnectionsMax - 1; }));
  fill(3, 1, Plane::kConnectionsMax + 1);
}

TEST(Connections, CountBytesAndRequestsInBothDirections) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  client.Write(0, Pattern(1000, 1));
  EXPECT_EQ(client.Read(0, 700).size(), 700U);
  EXPECT_EQ(client.Do(99, 0, 0, 0).error, wire::kInval);
  const Connections all = plane.plane().Connections();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].requests, 3U);
  EXPECT_EQ(all[0].bytes_in, 3 * wire::kRequestBytes + 1000);
  // The last send may be counted a moment after its bytes arrived here.
  EXPECT_TRUE(Eventually([&] {
    return plane.plane().Connections()[0].bytes_out == 3 * wire::kSimpleReplyBytes + 700;
  }));
}

TEST(CloseConnection, EndsAnIdleSessionAndOnlyThatOne) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client first = plane.Connect(disk);
  (void)first.Read(0, 512);
  const uint32_t id = plane.plane().Connections().at(0).id;
  Client second = plane.Connect(disk);
  (void)second.Read(0, 512);
  plane.plane().CloseConnection(id);
  EXPECT_TRUE(first.AtEnd());
  EXPECT_TRUE(Ended(plane, "the server closed the connection"));
  EXPECT_EQ(second.Read(0, 512).size(), 512U);
  EXPECT_EQ(plane.plane().Connections().size(), 1U);
}

TEST(CloseConnection, WithRequestsInTheStoreGivesUpTheirBuffersAndLocks) {
  TestPlane plane;
  std::atomic<bool> hold{true};
  DiskSetup setup;
  setup.hook = [&](const StoreOp&) { return FaultStore::Verdict{0, hold, false}; };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  for (int i = 0; i < 10; ++i) client.SendRequest(wire::kRead, 0, 0, 65536);
  for (int i = 0; i < 10; ++i) client.SendRequest(wire::kWrite, 0, 1, 1000, Pattern(1000, 1));
  client.SendRequest(wire::kWrite, 0, 0, 100'000, Pattern(50'000, 1));
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 21; }));
  plane.plane().CloseConnection(plane.plane().Connections().at(0).id);
  EXPECT_TRUE(client.AtEnd());
  hold = false;
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 0; }));
  Client next = plane.Connect(disk);
  next.Write(0, Pattern(4096, 2));
  EXPECT_EQ(next.Read(0, 4096), Pattern(4096, 2));
}

TEST(CloseConnection, OfAClientThatDoesNotReadItsRepliesEndsIt) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 32U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  for (int i = 0; i < 8; ++i) client.SendRequest(wire::kRead, 0, 0, 4U << 20);
  ASSERT_TRUE(Eventually([&] { return InFlight(*disk) == 8; }));
  plane.plane().CloseConnection(plane.plane().Connections().at(0).id);
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk) == 0; }));
  EXPECT_TRUE(plane.plane().Connections().empty());
}

TEST(CloseConnection, OfASuspendedDiskDropsWhatIsParked) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  (void)client.Read(0, 512);
  (void)Suspend(*disk);
  plane.plane().CloseConnection(plane.plane().Connections().at(0).id);
  EXPECT_TRUE(client.AtEnd());
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(plane.Connect(disk).Read(0, 512).size(), 512U);
}

}  // namespace
}  // namespace keyhold::test

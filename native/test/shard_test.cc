// SPDX-License-Identifier: Apache-2.0
// Shards, listeners and connections: how they begin and end.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/store/file_store.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

UniqueFd ConnectTo(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    socket.Reset();
  }
  return socket;
}

uint32_t ShardOf(TestPlane& plane, size_t connection) {
  return plane.plane().Connections().at(connection).shard;
}

TEST(ShardDeath, ClosesItsSocketsAndLeavesOtherShardsAlone) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client first = plane.Connect(disk);
  (void)first.Read(0, 512);
  Client second = plane.Connect(disk);
  (void)second.Read(0, 512);
  ASSERT_NE(ShardOf(plane, 0), ShardOf(plane, 1)) << "the least loaded shard gets a connection";
  plane.plane().FailShardForTest(ShardOf(plane, 0));
  EXPECT_TRUE(first.AtEnd());
  EXPECT_EQ(second.Read(0, 512).size(), 512U);
  const std::optional<ShardDied> died = plane.WaitFor<ShardDied>();
  ASSERT_TRUE(died);
  EXPECT_EQ(died->message, "the shard was told to fail");
  EXPECT_EQ(plane.plane().Connections().size(), 1U);
}

TEST(ShardDeath, ItsListenersMoveToALivingShard) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client before = plane.Connect(disk);
  const std::string path = plane.Listen(disk, {}, {});
  for (uint32_t dead : {0U, 1U}) {
    plane.plane().FailShardForTest(dead);
    ASSERT_TRUE(plane.WaitFor<ShardDied>([&](const ShardDied& d) { return d.index == dead; }));
    Client client(ConnectTo(path), {});
    EXPECT_EQ(client.Read(0, 512).size(), 512U);
    plane.RunShardAgain(dead);
    ASSERT_TRUE(Eventually([&] { return plane.plane().running_shards() == 2; }));
  }
}

TEST(ShardDeath, OfAllShardsIsHealedByRunningOneAgain) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  const std::string path = plane.Listen(disk, {}, {});
  plane.plane().FailShardForTest(0);
  ASSERT_TRUE(plane.WaitFor<ShardDied>());
  EXPECT_EQ(GoOffline(*disk).flush_error, "no shard is running that could flush the store");
  plane.RunShardAgain(0);
  ASSERT_TRUE(Unlock(*disk).ok());
  Client client(ConnectTo(path), {});
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
}

TEST(ShardDeath, AtTheMomentOfAConnectLeavesNoClientHanging) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  const std::string path = plane.Listen(disk, {}, {});
  for (int round = 0; round < 60; ++round) {
    std::vector<Client> clients;
    std::thread death([&] { plane.plane().FailShardForTest(0); });
    for (int i = 0; i < 30; ++i) clients.emplace_back(ConnectTo(path), wire::Agreed{});
    death.join();
    ASSERT_TRUE(Eventually([&] { return plane.plane().running_shards() == 0; }));
    plane.RunShardAgain(0);
    for (Client& client : clients) {
      client.SendRequest(wire::kRead, 0, 0, 512);
      // Served, or ended: Receive waits 20 s and then fails the test.
      (void)client.Receive();
      ASSERT_FALSE(HasFailure()) << "round " << round;
    }
    ASSERT_TRUE(Eventually([&] { return plane.plane().running_shards() == 1; }));
  }
}

TEST(ShardDeath, WithRequestsInFlightGivesUpTheirLocks) {
  std::atomic<bool> hold{false};
  std::atomic<int> held{0};
  TestPlane plane(2);
  DiskSetup setup;
  setup.hook = [&](const StoreOp& op) {
    const bool wait = hold && op.kind == StoreOp::Kind::kRead;
    if (wait) ++held;
    return FaultStore::Verdict{0, wait, false};
  };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client first = plane.Connect(disk);
  (void)first.Read(0, 512);
  Client second = plane.Connect(disk);
  (void)second.Read(0, 512);
  const uint32_t dying = ShardOf(plane, 0);
  hold = true;
  first.SendRequest(wire::kWrite, 0, 1, 1,
                    Pattern(1, 1));  // holds the sector, its old bytes pending
  EXPECT_TRUE(Eventually([&] { return held > 0; }));
  second.SendRequest(wire::kWrite, 0, 0, 512, Pattern(512, 1));
  EXPECT_TRUE(second.Silent(50));
  plane.plane().FailShardForTest(dying);
  EXPECT_EQ(second.Receive()->error, 0U);
  EXPECT_TRUE(first.AtEnd());
  EXPECT_TRUE(Eventually([&] { return disk->counters(dying).in_flight.Get() == 0; }));
}

TEST(ShardRun, IsRefusedWhileItRunsAndBeyondTheNumberOfShards) {
  TestPlane plane;
  EXPECT_EQ(plane.plane().RunShard(0).error().code, ErrorCode::kState);
  EXPECT_EQ(plane.plane().RunShard(1).error().code, ErrorCode::kInvalidArgument);
}

TEST(PlaneStop, ClosesSocketsWipesKeysAndIsIdempotent) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  (void)client.Read(0, 512);
  const std::string path = plane.Listen(disk, {}, {});
  plane.plane().Stop();
  EXPECT_FALSE(disk->guard().present());
  EXPECT_FALSE(std::filesystem::exists(path));
  plane.Stop();
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(plane.plane().RunShard(0).ok());
  EXPECT_EQ(Unlock(*disk).error().code, ErrorCode::kClosed);
  EXPECT_EQ(plane.plane().OpenDisk({}, "/nonexistent", nullptr).error().code, ErrorCode::kClosed);
}

TEST(PlaneCreate, RefusesBadOptions) {
  const auto ignore = [](Event) {};
  EXPECT_EQ(Plane::Create({0, "auto"}, ignore).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Plane::Create({65, "auto"}, ignore).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(Plane::Create({1, "rot13"}, ignore).error().code, ErrorCode::kInvalidArgument);
}

TEST(UnixListener, ReplacesAStaleSocketButNotALivingServerNorAFile) {
  TempDirectory directory;
  TestPlane plane;
  const std::string path = directory.File("nbd.sock");
  {
    UniqueFd stale(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    ASSERT_EQ(::bind(stale.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ASSERT_TRUE(plane.plane().ListenUnix(path, 0640).ok());
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  EXPECT_EQ(plane.plane().ListenUnix(path, 0600).error().code, ErrorCode::kState);
  const std::string file = directory.File("file");
  std::ofstream(file) << "precious";
  EXPECT_EQ(plane.plane().ListenUnix(file, 0600).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(file));
  EXPECT_EQ(plane.plane().ListenUnix(std::string(200, 'x'), 0600).error().code,
            ErrorCode::kInvalidArgument);
}

TEST(UnixListener, IsGoneAfterItsClosing) {
  TestPlane plane;
  TempDirectory directory;
  const std::string path = directory.File("nbd.sock");
  const uint32_t id = plane.plane().ListenUnix(path, 0600).value();
  EXPECT_TRUE(ConnectTo(path));
  plane.plane().CloseListener(id);
  EXPECT_FALSE(ConnectTo(path));
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(UnixListener, LeavesASocketFileThatAnotherServerPutInItsPlace) {
  TestPlane first;
  TestPlane second;
  TempDirectory directory;
  const std::string path = directory.File("nbd.sock");
  const uint32_t id = first.plane().ListenUnix(path, 0600).value();
  std::filesystem::rename(path, directory.File("aside"));
  ASSERT_TRUE(second.plane().ListenUnix(path, 0600).ok());
  first.plane().CloseListener(id);
  EXPECT_TRUE(ConnectTo(path));
}

TEST(TcpListener, PicksAPortAndNamesItsPeers) {
  TestPlane plane;
  EXPECT_EQ(plane.plane().ListenTcp("example.org", 0).error().code, ErrorCode::kInvalidArgument);
  const Plane::TcpListener listener = plane.plane().ListenTcp("127.0.0.1", 0).value();
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(listener.port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::optional<NegotiationOpen> open = plane.WaitFor<NegotiationOpen>();
  ASSERT_TRUE(open);
  EXPECT_EQ(open->listener_id, listener.id);
  sockaddr_in local{};
  socklen_t bytes = sizeof local;
  ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &bytes), 0);
  EXPECT_EQ(open->peer.kind, PeerAddress::Kind::kTcp);
  EXPECT_EQ(open->peer.address, "127.0.0.1");
  EXPECT_EQ(open->peer.port, ntohs(local.sin_port));
}

/// A plane whose negotiation the test itself answers.
class NegotiationTest : public ::testing::Test {
 protected:
  NegotiationTest() {
    plane_ =
        Plane::Create({1, "auto", engine_under_test, 0, kLastAnswerNsMax}, [this](Event event) {
          std::lock_guard lock(mutex_);
          events_.push_back(std::move(event));
        }).Take();
    thread_ = std::thread([this] { (void)plane_->RunShard(0); });
    path_ = directory_.File("nbd.sock");
    EXPECT_TRUE(plane_->ListenUnix(path_, 0600).ok());
  }
  ~NegotiationTest() override {
    plane_->Stop();
    thread_.join();
  }
  template <typename T>
  T Await() {
    T found{};
    EXPECT_TRUE(Eventually([&] {
      std::lock_guard lock(mutex_);
      for (auto it = events_.begin(); it != events_.end(); ++it) {
        if (!std::holds_alternative<T>(*it)) continue;
        found = std::get<T>(*it);
        events_.erase(it);
        return true;
      }
      return false;
    }));
    return found;
  }
  size_t events() {
    std::lock_guard lock(mutex_);
    return events_.size();
  }

  static constexpr int64_t kLastAnswerNsMax = 2'000'000'000;
  TempDirectory directory_;
  std::string path_;
  std::shared_ptr<Plane> plane_;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<Event> events_;
};

TEST_F(NegotiationTest, IsPingPongAndNamesThePeer) {
  UniqueFd socket = ConnectTo(path_);
  const NegotiationOpen open = Await<NegotiationOpen>();
  EXPECT_EQ(open.peer.kind, PeerAddress::Kind::kUnix);
  EXPECT_EQ(open.peer.pid, ::getpid());
  EXPECT_EQ(open.peer.uid, ::getuid());
  EXPECT_EQ(open.peer.gid, ::getgid());
  ASSERT_EQ(::send(socket.get(), "one", 3, 0), 3);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(events(), 0U) << "nothing is read before the answer to open";
  plane_->Respond(open.connection_id, {'h', 'i'}, {NextStep::Kind::kRead, 0, {}, {}});
  EXPECT_EQ(Await<NegotiationData>().data, Bytes({'o', 'n', 'e'}));
  char text[2];
  ASSERT_EQ(::recv(socket.get(), text, 2, MSG_WAITALL), 2);
  EXPECT_EQ(std::memcmp(text, "hi", 2), 0);
  // A second answer to one event is ignored.
  plane_->Respond(open.connection_id, {'x'}, {NextStep::Kind::kRead, 0, {}, {}});
  plane_->Respond(open.connection_id, {'y'}, {NextStep::Kind::kClose, 0, {}, {}});
  ASSERT_EQ(::recv(socket.get(), text, 1, 0), 1);
  EXPECT_EQ(text[0], 'x');
}

TEST_F(NegotiationTest, SendsAllOfALongAnswerBeforeItCloses) {
  UniqueFd socket = ConnectTo(path_);
  const NegotiationOpen open = Await<NegotiationOpen>();
  const Bytes answer = Pattern(3U << 20, 1);
  plane_->Respond(open.connection_id, answer, {NextStep::Kind::kClose, 0, {}, {}});
  Bytes got(answer.size());
  ASSERT_EQ(::recv(socket.get(), got.data(), got.size(), MSG_WAITALL),
            static_cast<ssize_t>(got.size()));
  EXPECT_TRUE(got == answer);
  EXPECT_EQ(::recv(socket.get(), got.data(), 1, 0), 0) << "a clean end, no reset";
  socket.Reset();
  EXPECT_EQ(Await<ConnectionClosed>().cause, "the server ended negotiation");
}

TEST_F(NegotiationTest, EndsWhenTheClientLeavesOrTheServerSaysSo) {
  {
    UniqueFd socket = ConnectTo(path_);
    plane_->Respond(Await<NegotiationOpen>().connection_id, {}, {NextStep::Kind::kRead, 0, {}, {}});
  }
  const ConnectionClosed left = Await<ConnectionClosed>();
  EXPECT_EQ(left.cause, "the client left during negotiation");
  EXPECT_EQ(left.disk_id, 0U);
  UniqueFd socket = ConnectTo(path_);
  plane_->CloseConnection(Await<NegotiationOpen>().connection_id);
  EXPECT_EQ(Await<ConnectionClosed>().cause, "the server ended negotiation");
  plane_->CloseConnection(12345);
  plane_->Respond(12345, {}, {});
  EXPECT_TRUE(plane_->Connections().empty());
}

TEST_F(NegotiationTest, TransmissionOfAnUnknownDiskEndsTheConnection) {
  UniqueFd socket = ConnectTo(path_);
  plane_->Respond(Await<NegotiationOpen>().connection_id, {},
                  {NextStep::Kind::kTransmission, 77, {}, {}});
  EXPECT_EQ(Await<ConnectionClosed>().cause, "the disk was closed");
}

TEST_F(NegotiationTest, AClientThatDoesNotReadItsLastAnswerIsClosed) {
  UniqueFd socket = ConnectTo(path_);
  const NegotiationOpen open = Await<NegotiationOpen>();
  plane_->Respond(open.connection_id, Pattern(3U << 20, 1), {});
  EXPECT_EQ(Await<ConnectionClosed>().cause,
            "the client did not read the answer that ended negotiation");
}

TEST(FileStoreOpen, RefusesWhatItCannotServe) {
  TempDirectory directory;
  const std::string path = directory.File("store");
  EXPECT_EQ(FileStore::Open(path, false, 1).error().errno_value, ENOENT);
  std::ofstream(path) << "0123456789";
  const Result<std::unique_ptr<FileStore>> small = FileStore::Open(path, false, 11);
  ASSERT_FALSE(small.ok());
  EXPECT_NE(small.error().message.find("it has 10 bytes, the disk needs 11"), std::string::npos);
  EXPECT_EQ(FileStore::Open("/dev/null", false, 0).error().code, ErrorCode::kInvalidArgument);
}

TEST(FileStoreOpen, LocksTheStoreAgainstASecondWriter) {
  TempDirectory directory;
  const std::string path = directory.File("store");
  std::ofstream(path) << "0123456789";
  {
    Result<std::unique_ptr<FileStore>> held = FileStore::Open(path, false, 10);
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(FileStore::Open(path, false, 10).error().code, ErrorCode::kState);
    EXPECT_EQ(FileStore::Open(path, true, 10).error().code, ErrorCode::kState);
  }
  Result<std::unique_ptr<FileStore>> reader = FileStore::Open(path, true, 10);
  EXPECT_TRUE(FileStore::Open(path, true, 10).ok()) << "readers share";
}

TEST(OpenDisk, RefusesAGeometryThatDoesNotFit) {
  TestPlane plane;
  TempDirectory directory;
  const std::string path = directory.File("store");
  std::ofstream(path) << std::string(8192, 'x');
  auto lease = std::make_shared<Lease>();
  auto open = [&](DiskGeometry geometry) {
    Plane::DiskOptions options;
    options.name = "d";
    options.geometry = geometry;
    return plane.plane().OpenDisk(options, path, lease);
  };
  EXPECT_TRUE(open({4096, 512, 4096, false, true}).ok());
  for (const DiskGeometry& bad :
       {DiskGeometry{0, 512, 0, false, true}, DiskGeometry{1000, 512, 0, false, true},
        DiskGeometry{4096, 1024, 0, false, true}, DiskGeometry{4096, 512, 100, false, true},
        DiskGeometry{8192, 512, 512, false, true},
        DiskGeometry{UINT64_MAX - 511, 512, 1024, false, true}}) {
    EXPECT_FALSE(open(bad).ok()) << bad.size_bytes;
  }
}

}  // namespace
}  // namespace keyhold::test

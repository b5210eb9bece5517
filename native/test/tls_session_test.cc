// SPDX-License-Identifier: Apache-2.0
// Transmission through TLS: data, bounds, the ends of a connection, and the loss of a key.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <thread>

#include "test/tls_fixture.h"

namespace keyhold::test {
namespace {

class TlsSessionTest : public ::testing::Test {
 protected:
  void Listen(DiskSetup setup = {}, bool structured = true) {
    context_id_ = plane_.plane().CreateTlsContext(world_.Options()).Take();
    disk_ = plane_.AddDisk(std::move(setup));
    agreed_.replies = structured ? wire::Replies::kStructured : wire::Replies::kSimple;
    path_ = plane_.Listen(disk_, agreed_, {}, context_id_);
  }
  Client Connect() {
    Attempt attempt = ConnectTls(path_, {.identity = &world_.client});
    EXPECT_NE(attempt.tls, nullptr);
    return Client(std::move(attempt.socket), agreed_, attempt.tls);
  }
  std::string CauseOfTheEnd() {
    const std::optional<ConnectionClosed> closed = plane_.WaitFor<ConnectionClosed>();
    return closed ? closed->cause : "none within 5 s";
  }
  static bool Notified(const Client& client) {
    return (SSL_get_shutdown(client.tls()) & SSL_RECEIVED_SHUTDOWN) != 0;
  }

  TlsWorld world_;
  TestPlane plane_;
  std::shared_ptr<Disk> disk_;
  uint32_t context_id_ = 0;
  wire::Agreed agreed_;
  std::string path_;
};

TEST_F(TlsSessionTest, DataOfEverySizeComesBack) {
  DiskSetup setup;
  setup.size_bytes = 64U << 20;
  Listen(setup);
  Client client = Connect();
  uint64_t offset = 0;
  for (const uint32_t length : {1U, 511U, 4096U, 8192U, 8193U, 16'383U, 16'384U, 16'385U, 32'768U,
                                131'072U, 1'000'003U, 33'554'432U}) {
    const Bytes bytes = Pattern(length, length);
    client.Write(offset, bytes);
    EXPECT_TRUE(client.Read(offset, length) == bytes) << length;
    offset += length;
  }
}

TEST_F(TlsSessionTest, SimpleRepliesWorkToo) {
  Listen({}, false);
  Client client = Connect();
  const Bytes bytes = Pattern(70'000, 1);
  client.Write(3, bytes);
  EXPECT_TRUE(client.Read(3, 70'000) == bytes);
}

TEST_F(TlsSessionTest, ManyRequestsInFlightAreAllAnswered) {
  DiskSetup setup;
  setup.size_bytes = 16U << 20;
  Listen(setup);
  Client client = Connect();
  const Bytes bytes = Pattern(16U << 20, 9);
  client.Write(0, std::span(bytes).first(8U << 20));
  client.Write(8U << 20, std::span(bytes).subspan(8U << 20));
  constexpr uint32_t kLengths[] = {100, 4096, 9000, 70'000};
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> wanted;
  for (uint32_t i = 0; i < 120; ++i) {
    const uint64_t offset = uint64_t{i} * 131'071;
    wanted[client.SendRequest(wire::kRead, 0, offset, kLengths[i % 4])] = {offset, kLengths[i % 4]};
  }
  for (size_t left = wanted.size(); left > 0; --left) {
    const std::optional<Reply> reply = client.Receive();
    ASSERT_TRUE(reply);
    const auto [offset, length] = wanted.at(reply->cookie);
    EXPECT_TRUE(std::equal(reply->data.begin(), reply->data.end(), bytes.begin() + offset));
    EXPECT_EQ(reply->data.size(), length);
  }
}

TEST_F(TlsSessionTest, ASmallReadSharesARecordWithItsHeader) {
  Listen();
  Client client = Connect();
  client.Write(0, Pattern(4096, 1));
  client.SendRequest(wire::kRead, 0, 0, 4096);
  Bytes reply(5000);
  // SSL_read gives what one record holds: header (20), offset (8), data.
  EXPECT_EQ(SSL_read(client.tls(), reply.data(), static_cast<int>(reply.size())), 4124);
}

TEST_F(TlsSessionTest, ALargeReadIsNotCopiedBehindItsHeader) {
  Listen();
  Client client = Connect();
  client.Write(0, Pattern(65'536, 1));
  client.SendRequest(wire::kRead, 0, 0, 65'536);
  Bytes reply(70'000);
  const auto record = [&] {
    return SSL_read(client.tls(), reply.data(), static_cast<int>(reply.size()));
  };
  // Data that is copied together with its header would fill up the header's record.
  EXPECT_EQ(record(), 28);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(record(), 16'384) << "record " << i << " of the data";
}

TEST_F(TlsSessionTest, ARefusedWriteKeepsTheSessionInSync) {
  DiskSetup setup;
  setup.read_only = true;
  Listen(setup);
  Client client = Connect();
  for (const uint32_t length : {512U, 100'000U, 1'000'000U}) {
    const Bytes bytes = Pattern(length, 5);
    EXPECT_EQ(client.Do(wire::kWrite, 0, 0, length, bytes).error, uint32_t{wire::kPerm});
    EXPECT_EQ(client.Read(0, 512), Bytes(512));
  }
}

TEST_F(TlsSessionTest, ADisconnectIsAnsweredByCloseNotify) {
  Listen();
  Client client = Connect();
  client.SendRequest(wire::kDisconnect, 0, 0, 0);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(Notified(client));
  EXPECT_EQ(CauseOfTheEnd(), "the client disconnected");
}

TEST_F(TlsSessionTest, ADisconnectBehindReadsIsAnsweredAfterThem) {
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  Listen(setup);
  Client client = Connect();
  client.SendRequest(wire::kRead, 0, 0, 4U << 20);
  client.SendRequest(wire::kRead, 0, 0, 4096);
  client.SendRequest(wire::kDisconnect, 0, 0, 0);
  EXPECT_TRUE(client.Receive());
  EXPECT_TRUE(client.Receive());
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(Notified(client));
}

TEST_F(TlsSessionTest, AClientThatEndsItsHalfStillGetsItsReplies) {
  Listen();
  Client client = Connect();
  client.SendRequest(wire::kRead, 0, 0, 4096);
  EXPECT_GE(SSL_shutdown(client.tls()), 0);
  EXPECT_TRUE(client.Receive());
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(CauseOfTheEnd(), "the client left");
}

TEST_F(TlsSessionTest, AConnectionThatIsCutIsToldFromOneThatWasEnded) {
  Listen();
  Client client = Connect();
  client.Read(0, 512);
  client.Close();
  EXPECT_EQ(CauseOfTheEnd(), "the client left without ending tls");
}

TEST_F(TlsSessionTest, ARecordThatWasChangedEndsTheConnection) {
  Listen();
  Client client = Connect();
  client.Read(0, 512);
  const std::array<uint8_t, 37> record{0x17, 0x03, 0x03, 0x00, 0x20, 1, 2, 3};
  EXPECT_EQ(::send(client.fd(), record.data(), record.size(), 0), 37);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(CauseOfTheEnd(), "tls: decryption failed or bad record mac");
}

TEST_F(TlsSessionTest, ClearBytesInTransmissionEndTheConnection) {
  Listen();
  Client client = Connect();
  client.Read(0, 512);
  Client clear(UniqueFd(::dup(client.fd())), agreed_);
  clear.SendRequest(wire::kRead, 0, 0, 512);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(CauseOfTheEnd(), "tls: wrong version number");
}

TEST_F(TlsSessionTest, RenegotiationIsRefused) {
  Listen();
  const ClientTls setup{.identity = &world_.client, .max_version = TLS1_2_VERSION};
  Attempt attempt = ConnectTls(path_, setup);
  ASSERT_NE(attempt.tls, nullptr);
  Client client(std::move(attempt.socket), agreed_, attempt.tls);
  client.Read(0, 512);
  EXPECT_EQ(SSL_renegotiate(client.tls()), 1);
  EXPECT_NE(SSL_do_handshake(client.tls()), 1);
  ERR_clear_error();
}

TEST_F(TlsSessionTest, ManyKeyUpdatesAreAnsweredAndTheSessionGoesOn) {
  Listen();
  Client client = Connect();
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(SSL_key_update(client.tls(), SSL_KEY_UPDATE_REQUESTED), 1);
    EXPECT_EQ(SSL_do_handshake(client.tls()), 1);
    if (i % 10 == 0) {
      EXPECT_EQ(client.Read(0, 512), Bytes(512));
    }
  }
}

TEST_F(TlsSessionTest, AClientThatDoesNotReadIsBounded) {
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  Listen(setup);
  Client slow = Connect();
  for (int i = 0; i < 16; ++i) slow.SendRequest(wire::kRead, 0, 0, 8U << 20);
  Client good = Connect();
  EXPECT_EQ(good.Read(0, 512), Bytes(512));
  for (int i = 0; i < 16; ++i) {
    const std::optional<Reply> reply = slow.Receive();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->data.size(), 8U << 20);
  }
}

TEST_F(TlsSessionTest, ADiskThatWasSuspendedGoesOnWithTheSameConnection) {
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  Listen(setup);
  Client client = Connect();
  const Bytes bytes = Pattern(1'000'000, 3);
  client.Write(7, bytes);
  const SuspendReceipt receipt = Suspend(*disk_);
  EXPECT_EQ(receipt.parked_requests, 0U);
  client.SendRequest(wire::kRead, 0, 7, 1'000'000);
  EXPECT_TRUE(client.Silent(100));
  ASSERT_TRUE(Unlock(*disk_).ok());
  EXPECT_TRUE(client.Receive()->data == bytes);
}

TEST_F(TlsSessionTest, APayloadThatIsHalfThereGoesOnAfterTheResume) {
  Listen();
  Client client = Connect();
  const Bytes bytes = Pattern(600'000, 3);
  client.SendRequest(wire::kWrite, 0, 7, 600'000, std::span(bytes).first(300'000));
  EXPECT_TRUE(Eventually([&] {
    return Sum(*disk_, [](const ShardCounters& c) -> const Counter& { return c.in_flight; }) == 1;
  }));
  EXPECT_EQ(Suspend(*disk_).parked_requests, 1U);
  std::thread rest([&] { client.SendRaw(std::span(bytes).subspan(300'000)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(Unlock(*disk_).ok());
  rest.join();
  EXPECT_EQ(client.Receive()->error, 0U);
  EXPECT_TRUE(client.Read(7, 600'000) == bytes);
}

TEST_F(TlsSessionTest, AReplyThatHadBegunIsCompletedAndTheOthersAreTakenBack) {
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  Listen(setup);
  Client client = Connect();
  const Bytes bytes = Pattern(8U << 20, 4);
  client.Write(0, bytes);
  client.SendRequest(wire::kRead, 0, 0, 8U << 20);
  client.SendRequest(wire::kRead, 0, 4096, 8192);
  ASSERT_FALSE(client.Silent(20'000));  // it has begun
  std::optional<Reply> first;
  std::thread reader([&] { first = client.Receive(); });
  GoOffline(*disk_);
  reader.join();
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->data == bytes);
  EXPECT_EQ(client.Receive()->error, uint32_t{wire::kShutdown});
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, uint32_t{wire::kShutdown});
}

TEST_F(TlsSessionTest, ClientsOfAnOfflineDiskAreDisconnectedWithCloseNotify) {
  Listen();
  Client client = Connect();
  client.Write(0, Pattern(4096, 1));
  GoOffline(*disk_);
  EXPECT_EQ(client.Do(wire::kRead, 0, 0, 512).error, uint32_t{wire::kShutdown});
  EXPECT_TRUE(disk_->DisconnectClients([](uint64_t) {}).ok());
  EXPECT_TRUE(client.AtEnd());
  EXPECT_TRUE(Notified(client));
}

TEST_F(TlsSessionTest, TheKeyMayGoAtAnyMomentUnderLoad) {
  DiskSetup setup;
  setup.size_bytes = 4U << 20;
  Listen(setup);
  const Bytes bytes = Pattern(4U << 20, 6);
  Client(Connect()).Write(0, bytes);
  std::atomic<bool> stop{false};
  std::thread load([&] {
    Client client = Connect();
    for (uint32_t i = 0; !stop; ++i) {
      const uint32_t length = 1 + (i * 7919) % 300'000;
      const uint64_t offset = (uint64_t{i} * 104'729) % ((4U << 20) - length);
      const Reply reply = client.Do(wire::kRead, 0, offset, length);
      ASSERT_EQ(reply.error, 0U);
      ASSERT_TRUE(std::equal(reply.data.begin(), reply.data.end(), bytes.begin() + offset));
    }
  });
  for (int i = 0; i < 20; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(15));
    Suspend(*disk_);
    EXPECT_TRUE(Unlock(*disk_).ok());
  }
  stop = true;
  load.join();
}

}  // namespace
}  // namespace keyhold::test

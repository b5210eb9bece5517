// SPDX-License-Identifier: Apache-2.0
// Who gets through the handshake, who does not, and what is said about either.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "test/tls_fixture.h"

namespace keyhold::test {
namespace {

using Mode = TlsContextOptions::ClientCertificates;

const wire::Agreed kAgreed{wire::Replies::kStructured, {}};

class TlsHandshakeTest : public ::testing::Test {
 protected:
  void Listen(const TlsContextOptions& options) {
    Result<uint32_t> context = plane_.plane().CreateTlsContext(options);
    ASSERT_TRUE(context.ok()) << context.error().message;
    context_id_ = context.value();
    disk_ = plane_.AddDisk();
    path_ = plane_.Listen(disk_, kAgreed, {}, context_id_);
  }
  void ListenForPsk() {
    TlsContextOptions options;
    options.psk_file = world_.File("psk");
    Listen(options);
  }
  /// The facts that the server learned; none when the handshake failed.
  std::optional<TlsFacts> Try(const ClientTls& setup) {
    const Attempt attempt = ConnectTls(path_, setup);
    uint8_t byte = 0;
    // In TLS 1.3 a client learns only after its part whether its certificate was taken.
    const bool refused =
        attempt.tls == nullptr || (SSL_set_mode(attempt.tls.get(), SSL_MODE_AUTO_RETRY),
                                   ::shutdown(attempt.socket.get(), SHUT_WR),
                                   SSL_read(attempt.tls.get(), &byte, 1) <= 0 &&
                                       SSL_get_error(attempt.tls.get(), 0) == SSL_ERROR_SSL);
    ERR_clear_error();
    const auto closed = plane_.WaitFor<ConnectionClosed>(
        [&](const ConnectionClosed& event) { return event.connection_id > last_connection_; });
    if (!closed) return {};
    last_connection_ = closed->connection_id;
    cause_ = closed->cause;
    const auto is_mine = [&](const NegotiationTls& event) {
      return event.connection_id == last_connection_;
    };
    const auto event = plane_.WaitFor<NegotiationTls>(is_mine, 0);
    EXPECT_EQ(!event, refused) << cause_;
    if (!event) return {};
    return event->tls;
  }

  TlsWorld world_;
  TestPlane plane_;
  std::shared_ptr<Disk> disk_;
  uint32_t context_id_ = 0;
  std::string path_;
  uint32_t last_connection_ = 0;
  std::string cause_;
};

TEST_F(TlsHandshakeTest, AClientCertificateIsVerifiedAndDescribed) {
  Listen(world_.Options());
  const std::optional<TlsFacts> facts = Try({.identity = &world_.client});
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->version, "TLSv1.3");
  EXPECT_EQ(facts->cipher, "TLS_AES_256_GCM_SHA384");
  ASSERT_TRUE(facts->certificate);
  EXPECT_EQ(facts->certificate->subject, "CN=vm1,O=Example");
  EXPECT_EQ(
      facts->certificate->subject_alt_names,
      (std::vector<std::string>{"DNS:vm1.example", "URI:spiffe://example/vm1", "IP:10.0.0.1"}));
  EXPECT_EQ(facts->certificate->fingerprint_sha256.size(), 64U);
  EXPECT_FALSE(facts->psk_identity);
}

TEST_F(TlsHandshakeTest, Tls12WithForwardSecrecyIsTaken) {
  Listen(world_.Options());
  const std::optional<TlsFacts> facts =
      Try({.identity = &world_.client, .max_version = TLS1_2_VERSION});
  ASSERT_TRUE(facts) << cause_;
  EXPECT_EQ(facts->version, "TLSv1.2");
  EXPECT_TRUE(facts->cipher.starts_with("ECDHE-ECDSA-"));
}

TEST_F(TlsHandshakeTest, Tls11IsRefused) {
  Listen(world_.Options());
  EXPECT_FALSE(Try(
      {.identity = &world_.client, .min_version = TLS1_VERSION, .max_version = TLS1_1_VERSION}));
  EXPECT_EQ(cause_, "tls handshake: unsupported protocol");
}

TEST_F(TlsHandshakeTest, Tls12IsRefusedWhereTls13IsTheLeast) {
  TlsContextOptions options = world_.Options();
  options.tls_1_3_only = true;
  Listen(options);
  EXPECT_FALSE(Try({.identity = &world_.client, .max_version = TLS1_2_VERSION}));
}

TEST_F(TlsHandshakeTest, AClientWithoutTheRequiredCertificateIsRefused) {
  Listen(world_.Options());
  EXPECT_FALSE(Try({}));
  EXPECT_EQ(cause_, "tls handshake: peer did not return a certificate");
}

TEST_F(TlsHandshakeTest, AnOptionalCertificateMayBeMissing) {
  TlsContextOptions options = world_.Options();
  options.client_certificates = Mode::kOptional;
  Listen(options);
  const std::optional<TlsFacts> facts = Try({});
  ASSERT_TRUE(facts);
  EXPECT_FALSE(facts->certificate);
}

TEST_F(TlsHandshakeTest, AnOptionalCertificateMustBeGoodAllTheSame) {
  TlsContextOptions options = world_.Options();
  options.client_certificates = Mode::kOptional;
  Listen(options);
  const Identity foreign = MakeIdentity({.common_name = "vm1", .purpose = "clientAuth"});
  EXPECT_FALSE(Try({.identity = &foreign}));
}

TEST_F(TlsHandshakeTest, ACertificateOfAForeignAuthorityIsRefused) {
  Listen(world_.Options());
  const Identity other = MakeIdentity({.common_name = "Test CA", .authority = true});
  const Identity foreign =
      MakeIdentity({.common_name = "vm1", .purpose = "clientAuth", .issuer = &other});
  EXPECT_FALSE(Try({.identity = &foreign}));
  EXPECT_TRUE(cause_.starts_with("tls handshake: certificate verify failed: ")) << cause_;
}

TEST_F(TlsHandshakeTest, AnExpiredCertificateIsRefused) {
  Listen(world_.Options());
  const Identity old = MakeIdentity({.common_name = "vm1",
                                     .alt_name = "",
                                     .purpose = "clientAuth",
                                     .valid_to_s = -10,
                                     .issuer = &world_.authority});
  EXPECT_FALSE(Try({.identity = &old}));
  EXPECT_EQ(cause_, "tls handshake: certificate verify failed: certificate has expired");
}

TEST_F(TlsHandshakeTest, AServersCertificateIsNoClients) {
  Listen(world_.Options());
  EXPECT_FALSE(Try({.identity = &world_.server}));
  EXPECT_EQ(cause_, "tls handshake: certificate verify failed: unsuitable certificate purpose");
}

TEST_F(TlsHandshakeTest, AKnownPskIsTakenInBothVersions) {
  ListenForPsk();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::optional<TlsFacts> facts =
        Try({.psk_name = "alice", .min_version = version, .max_version = version});
    ASSERT_TRUE(facts) << cause_;
    EXPECT_EQ(facts->psk_identity, "alice");
    EXPECT_FALSE(facts->certificate);
  }
}

TEST_F(TlsHandshakeTest, APskIsTakenBesideARequiredCertificate) {
  TlsContextOptions options = world_.Options();
  options.psk_file = world_.File("psk");
  Listen(options);
  const std::optional<TlsFacts> by_psk = Try({.psk_name = "alice"});
  ASSERT_TRUE(by_psk) << cause_;
  EXPECT_EQ(by_psk->psk_identity, "alice");
  const std::optional<TlsFacts> by_certificate = Try({.identity = &world_.client});
  ASSERT_TRUE(by_certificate) << cause_;
  EXPECT_FALSE(by_certificate->psk_identity);
  EXPECT_FALSE(Try({})) << "neither";
}

TEST_F(TlsHandshakeTest, AnUnknownNameFailsExactlyAsAWrongKeyDoes) {
  ListenForPsk();
  const std::string wrong(64, 'a');
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    EXPECT_FALSE(Try(
        {.psk_name = "alice", .psk_hex = wrong, .min_version = version, .max_version = version}));
    const std::string cause = cause_;
    EXPECT_FALSE(Try({.psk_name = "nobody", .min_version = version, .max_version = version}));
    EXPECT_EQ(cause_, cause);
  }
}

TEST_F(TlsHandshakeTest, BytesBetweenStartTlsAndItsAnswerEndTheConnection) {
  Listen(world_.Options());
  // The bytes are there when the connection is accepted: before any answer.
  std::vector<UniqueFd> sockets;
  const UniqueFd socket = ConnectUnix(path_);
  const uint8_t option[] = "IHAVEOPT";
  ASSERT_EQ(::send(socket.get(), option, 8, 0), 8);
  const auto closed = plane_.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed);
  // Whoever is faster: they are found before the answer, or are no handshake.
  EXPECT_TRUE(closed->cause == "the client sent bytes in clear between STARTTLS and the answer" ||
              closed->cause == "tls handshake: wrong version number")
      << closed->cause;
}

TEST_F(TlsHandshakeTest, AClientThatLeavesInTheHandshakeIsForgotten) {
  Listen(world_.Options());
  UniqueFd socket = ConnectUnix(path_);
  uint8_t answer = 0;
  EXPECT_EQ(::recv(socket.get(), &answer, 1, 0), 1);
  socket.Reset();
  const auto closed = plane_.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->cause, "tls handshake: the client left");
}

TEST_F(TlsHandshakeTest, AHandshakeThatIsTooLongIsCutOff) {
  Listen(world_.Options());
  const UniqueFd socket = ConnectUnix(path_);
  uint8_t answer = 0;
  EXPECT_EQ(::recv(socket.get(), &answer, 1, 0), 1);
  // A ClientHello that claims 16 MiB, in records of 16 KiB.
  Bytes record(5 + 16'384);
  record[0] = 0x16;
  record[1] = 3;
  record[2] = 1;
  record[3] = 0x40;
  Bytes first = record;
  first[5] = 1;
  first[6] = 0xff;
  for (int i = 0; i < 64; ++i) {
    const Bytes& bytes = i == 0 ? first : record;
    if (::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) break;
  }
  const auto closed = plane_.WaitFor<ConnectionClosed>();
  ASSERT_TRUE(closed);
  EXPECT_TRUE(closed->cause.starts_with("tls handshake: ")) << closed->cause;
}

/// The bytes of a client's side of a handshake through a pair of memory BIOs.
TEST_F(TlsHandshakeTest, MayArriveByteByByte) {
  Listen(world_.Options());
  const UniqueFd socket = ConnectUnix(path_);
  uint8_t byte = 0;
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), 1);
  const SslPointer tls = MakeClientTls({.identity = &world_.client});
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(tls.get(), in, out);
  while (SSL_do_handshake(tls.get()) != 1 || BIO_pending(out) > 0) {
    ERR_clear_error();
    while (BIO_read(out, &byte, 1) == 1) ASSERT_EQ(::send(socket.get(), &byte, 1, 0), 1);
    if (SSL_is_init_finished(tls.get()) == 1) break;
    ASSERT_EQ(::recv(socket.get(), &byte, 1, 0), 1);
    BIO_write(in, &byte, 1);
  }
  EXPECT_TRUE(plane_.WaitFor<TransmissionStarted>());
}

/// Every prefix of a handshake may be all that ever comes.
TEST_F(TlsHandshakeTest, MayBreakOffAfterEveryByteOfTheHello) {
  Listen(world_.Options());
  const SslPointer tls = MakeClientTls({});
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(tls.get(), BIO_new(BIO_s_mem()), out);
  SSL_do_handshake(tls.get());
  ERR_clear_error();
  char* hello = nullptr;
  const size_t bytes = static_cast<size_t>(BIO_get_mem_data(out, &hello));
  for (size_t cut = 0; cut <= bytes; ++cut) {
    const UniqueFd socket = ConnectUnix(path_);
    uint8_t answer = 0;
    ASSERT_EQ(::recv(socket.get(), &answer, 1, 0), 1);
    ::send(socket.get(), hello, cut, MSG_NOSIGNAL);
  }
  EXPECT_TRUE(Eventually([&] { return plane_.plane().Connections().empty(); }));
}

TEST_F(TlsHandshakeTest, AReplacedContextIsForNewConnectionsAndLeavesOldOnesAlone) {
  Listen(world_.Options());
  Attempt old = ConnectTls(path_, {.identity = &world_.client});
  ASSERT_NE(old.tls, nullptr);
  Client client(std::move(old.socket), kAgreed, old.tls);
  EXPECT_EQ(client.Read(0, 512), Bytes(512));
  const Identity renewed = MakeIdentity(
      {.common_name = "renewed", .alt_name = "DNS:localhost", .issuer = &world_.authority});
  WritePem(renewed, world_.File("server.pem"), world_.File("server.key"));
  ASSERT_TRUE(plane_.plane().ReplaceTlsContext(context_id_, world_.Options()).ok());
  const Attempt fresh = ConnectTls(path_, {.identity = &world_.client});
  ASSERT_NE(fresh.tls, nullptr);
  EXPECT_EQ(X509_cmp(SSL_get0_peer_certificate(fresh.tls.get()), renewed.certificate.get()), 0);
  EXPECT_EQ(client.Read(0, 512), Bytes(512));
}

TEST_F(TlsHandshakeTest, ABrokenReplacementKeepsTheOldContext) {
  Listen(world_.Options());
  WriteText(world_.File("server.pem"), "nonsense");
  EXPECT_FALSE(plane_.plane().ReplaceTlsContext(context_id_, world_.Options()).ok());
  EXPECT_TRUE(Try({.identity = &world_.client})) << cause_;
}

TEST_F(TlsHandshakeTest, AContextThatIsNotThereEndsTheConnection) {
  disk_ = plane_.AddDisk();
  path_ = plane_.Listen(disk_, kAgreed, {}, 77);
  EXPECT_EQ(ConnectTls(path_, {}).tls, nullptr);
  EXPECT_TRUE(plane_.WaitFor<ConnectionClosed>());
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// What a server's TLS files may be, and what is said about those that they may not be.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/tls/files.h"
#include "test/tls_fixture.h"

namespace keyhold::test {
namespace {

class TlsContextTest : public ::testing::Test {
 protected:
  std::string Refusal(const TlsContextOptions& options) {
    const auto context = TlsContext::Load(options);
    return context.ok() ? "none" : context.error().message;
  }
  /// Expects a refusal that holds all of `parts`.
  void ExpectRefusal(const TlsContextOptions& options, std::initializer_list<std::string> parts) {
    const std::string refusal = Refusal(options);
    for (const std::string& part : parts) {
      EXPECT_NE(refusal.find(part), std::string::npos) << refusal << "\nlacks: " << part;
    }
  }
  TlsContextOptions PskOptions(const std::string& text, uint32_t mode = 0600) {
    WriteText(world_.File("other.psk"), text, mode);
    TlsContextOptions options;
    options.psk_file = world_.File("other.psk");
    return options;
  }
  TlsWorld world_;
  const std::string key_ = kPskHex;
};

TEST_F(TlsContextTest, TakesWhatFitsTogether) { EXPECT_EQ(Refusal(world_.Options()), "none"); }

TEST_F(TlsContextTest, WantsACertificateOrKeys) {
  ExpectRefusal({}, {"expected a certificate with its key, or a psk file, got neither"});
}

TEST_F(TlsContextTest, WantsBothHalvesOfACertificate) {
  TlsContextOptions options = world_.Options();
  options.key_file.clear();
  ExpectRefusal(options, {"server.pem", "expected both or none"});
}

TEST_F(TlsContextTest, NamesAFileThatIsNotThere) {
  TlsContextOptions options = world_.Options();
  options.cert_file = world_.File("absent");
  ExpectRefusal(options, {"open certificate file", "absent", "No such file"});
}

TEST_F(TlsContextTest, RefusesAKeyThatOthersMayRead) {
  for (const uint32_t mode : {0644U, 0604U, 0640U}) {
    ::chmod(world_.File("server.key").c_str(), mode);
    ExpectRefusal(world_.Options(),
                  {"server.key: its mode is 06", "expected 0600", "chmod go-rwx"});
  }
}

TEST_F(TlsContextTest, TakesAKeyThatAnotherUserLendsThroughItsGroup) {
  if (::geteuid() != 0) return;  // nobody else can give a file away
  const std::string path = world_.File("server.key");
  ASSERT_EQ(::chown(path.c_str(), 1, 1), 0);
  ::chmod(path.c_str(), 0640);
  EXPECT_EQ(Refusal(world_.Options()), "none");
  ::chmod(path.c_str(), 0644);
  ExpectRefusal(world_.Options(), {"its mode is 0644", "expected 0640", "chmod o-rwx"});
}

TEST_F(TlsContextTest, NamesBothSidesOfAKeyThatDoesNotFit) {
  TlsContextOptions options = world_.Options();
  options.key_file = world_.File("ca.key");
  ExpectRefusal(options, {"server.pem is of public key ", "ca.key of ", "do not belong together"});
}

TEST_F(TlsContextTest, RefusesWhatIsNoPem) {
  WriteText(world_.File("junk"), "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
  for (std::string TlsContextOptions::*field :
       {&TlsContextOptions::cert_file, &TlsContextOptions::key_file,
        &TlsContextOptions::client_ca_file}) {
    TlsContextOptions options = world_.Options();
    options.*field = world_.File("junk");
    ExpectRefusal(options, {"junk", "in PEM"});
  }
}

TEST_F(TlsContextTest, RefusesAFileThatIsNoFileOrTooLong) {
  TlsContextOptions options = world_.Options();
  ASSERT_EQ(::mkfifo(world_.File("pipe").c_str(), 0600), 0);
  options.key_file = world_.File("pipe");
  ExpectRefusal(options, {"key file", "pipe: expected a regular file"});
  WriteText(world_.File("long"), std::string(kTlsFileBytesMax + 1, 'x'));
  options.key_file = world_.File("long");
  ExpectRefusal(options, {"1048576 bytes, found 1048577"});
}

TEST_F(TlsContextTest, RefusesAClientCaThatIsNoAuthority) {
  TlsContextOptions options = world_.Options();
  options.client_ca_file = world_.File("server.pem");
  ExpectRefusal(options, {"client CA file", "CN=server,O=Example", "CA:TRUE"});
}

TEST_F(TlsContextTest, WantsAClientCaWhereCertificatesAreAskedFor) {
  TlsContextOptions options = world_.Options();
  options.client_ca_file.clear();
  ExpectRefusal(options, {"expected a client CA file"});
}

TEST_F(TlsContextTest, RefusesASuiteThatDoesNotExist) {
  TlsContextOptions options = world_.Options();
  options.ciphers = "TLS_ROT13";
  ExpectRefusal(options, {"TLS_ROT13"});
}

TEST_F(TlsContextTest, ReadsPskFilesAsPsktoolWritesThem) {
  EXPECT_EQ(Refusal(PskOptions("alice:" + key_ + "\r\n\n# note\nurn:vm:2:" + key_)), "none");
}

TEST_F(TlsContextTest, NamesTheLineOfABadPskButNoneOfItsText) {
  const std::string secret = "0011secret";
  for (const std::string& line :
       {std::string("alice"), ":" + key_, "alice:" + key_.substr(0, 30), "alice:" + key_ + "0",
        "alice:" + std::string(32, 'g'), "alice:" + std::string(200, '0'), "alice:" + secret}) {
    const std::string refusal = Refusal(PskOptions("# first\n" + line + "\n"));
    EXPECT_NE(refusal.find("other.psk, line 2: "), std::string::npos) << refusal;
    EXPECT_EQ(refusal.find("alice"), std::string::npos) << refusal;
    EXPECT_EQ(refusal.find("secret"), std::string::npos) << refusal;
  }
}

TEST_F(TlsContextTest, RefusesANameThatStandsThereTwice) {
  ExpectRefusal(PskOptions("a:" + key_ + "\na:" + key_ + "\n"),
                {"line 2: the name stands there twice"});
}

TEST_F(TlsContextTest, RefusesAPskFileWithoutKeysOrThatOthersMayRead) {
  ExpectRefusal(PskOptions("# nobody\n"), {"holds no key"});
  ExpectRefusal(PskOptions("alice:" + key_, 0644), {"psk file", "its mode is 0644"});
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
#include "core/keys/set_key.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "test/random_bytes.h"

namespace keyhold {
namespace {

using Bytes = std::vector<uint8_t>;
using testing::Random;

const Bytes kAad = {'v', '1', ' ', 'd', 'i', 's', 'k'};

/// A pipe that was written and whose writing end is closed.
int FilledPipe(const Bytes& content) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], content.data(), content.size()), static_cast<ssize_t>(content.size()));
  close(ends[1]);
  return ends[0];
}

bool IsClosed(int fd) { return fcntl(fd, F_GETFD) == -1 && errno == EBADF; }

std::shared_ptr<SetKey> Known(const Bytes& key) {
  return SetKey::Receive(FilledPipe(key), 1000).Take();
}

/// An RSA key pair of OpenSSL: the independent other side of Wrap.
class RsaPair {
 public:
  explicit RsaPair(unsigned int bits) : key_(EVP_RSA_gen(bits)) {}
  RsaPair(const RsaPair&) = delete;
  RsaPair& operator=(const RsaPair&) = delete;
  ~RsaPair() { EVP_PKEY_free(key_); }

  Bytes modulus() const { return Parameter(OSSL_PKEY_PARAM_RSA_N); }
  Bytes exponent() const { return Parameter(OSSL_PKEY_PARAM_RSA_E); }

  Bytes Unwrap(const Bytes& wrapped) const {
    EVP_PKEY_CTX* context = EVP_PKEY_CTX_new(key_, nullptr);
    EVP_PKEY_decrypt_init(context);
    EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING);
    EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256());
    EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256());
    Bytes plain(1024);
    size_t length = plain.size();
    if (EVP_PKEY_decrypt(context, plain.data(), &length, wrapped.data(), wrapped.size()) != 1) {
      length = 0;
    }
    EVP_PKEY_CTX_free(context);
    plain.resize(length);
    return plain;
  }

 private:
  Bytes Parameter(const char* name) const {
    BIGNUM* number = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key_, name, &number), 1);
    Bytes bytes(static_cast<size_t>(BN_num_bytes(number)));
    BN_bn2bin(number, bytes.data());
    BN_free(number);
    return bytes;
  }

  EVP_PKEY* key_;
};

TEST(SetKeyReceive, TakesExactly32BytesAndClosesThePipe) {
  const int fd = FilledPipe(Random().Bytes(32));
  const auto key = SetKey::Receive(fd, 1000);
  ASSERT_TRUE(key.ok()) << key.error().message;
  EXPECT_FALSE(key.value()->wiped());
  EXPECT_TRUE(IsClosed(fd));
}

TEST(SetKeyReceive, TakesAKeyThatComesInPieces) {
  const Bytes content = Random().Bytes(32);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  std::thread writer([&] {
    for (const uint8_t byte : content) EXPECT_EQ(write(ends[1], &byte, 1), 1);
    close(ends[1]);
  });
  const auto key = SetKey::Receive(ends[0], 5000);
  writer.join();
  ASSERT_TRUE(key.ok()) << key.error().message;
  EXPECT_TRUE(key.value()->Equals(*Known(content)));
}

TEST(SetKeyReceive, RefusesEveryOtherLengthNamingBothCounts) {
  for (const size_t length : {0U, 1U, 31U, 33U, 64U, 4096U}) {
    const int fd = FilledPipe(Random().Bytes(length));
    const auto key = SetKey::Receive(fd, 1000);
    ASSERT_FALSE(key.ok()) << length;
    EXPECT_EQ(key.error().code, ErrorCode::kInvalidArgument);
    const std::string got = length > 32 ? "at least 33" : std::to_string(length);
    EXPECT_NE(key.error().message.find("got " + got + " bytes, expected 32"), std::string::npos)
        << key.error().message;
    EXPECT_TRUE(IsClosed(fd)) << length;
  }
}

TEST(SetKeyReceive, TimesOutOnAWriterThatNeverCloses) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const Bytes content = Random().Bytes(32);
  ASSERT_EQ(write(ends[1], content.data(), content.size()), 32);
  const auto key = SetKey::Receive(ends[0], 30);
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().code, ErrorCode::kTimeout);
  EXPECT_TRUE(IsClosed(ends[0]));
  close(ends[1]);
}

TEST(SetKeyReceive, RefusesANegativeTimeoutAndStillClosesThePipe) {
  const int fd = FilledPipe(Random().Bytes(32));
  const auto key = SetKey::Receive(fd, -1);
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(IsClosed(fd));
}

TEST(SetKeyReceive, ReportsADescriptorThatIsNotOpen) {
  const int fd = FilledPipe({});
  close(fd);
  const auto key = SetKey::Receive(fd, 100);
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().code, ErrorCode::kSystem);
  EXPECT_EQ(key.error().errno_value, EBADF);
}

TEST(SetKeyGenerate, NeverGivesTheSameKeyTwice) {
  EXPECT_FALSE(SetKey::Generate().Take()->Equals(*SetKey::Generate().Take()));
}

TEST(SetKeyEquals, ComparesContent) {
  const Bytes content = Random().Bytes(32);
  Bytes other = content;
  other[31] ^= 1;
  EXPECT_TRUE(Known(content)->Equals(*Known(content)));
  EXPECT_FALSE(Known(content)->Equals(*Known(other)));
}

TEST(SetKeyEquals, AWipedKeyEqualsNothingNotEvenItself) {
  const auto key = SetKey::Generate().Take();
  const auto other = SetKey::Generate().Take();
  EXPECT_TRUE(key->Equals(*key));
  key->Wipe();
  other->Wipe();
  EXPECT_FALSE(key->Equals(*key));
  EXPECT_FALSE(key->Equals(*other));
}

TEST(SetKeyWrap, IsUnwrappedByThePrivateKeyInEverySizeThatKeyVaultMakes) {
  const Bytes content = Random().Bytes(32);
  const auto key = Known(content);
  for (const unsigned int bits : {2048U, 3072U, 4096U}) {
    const RsaPair pair(bits);
    const auto wrapped = key->Wrap(pair.modulus(), pair.exponent());
    ASSERT_TRUE(wrapped.ok()) << wrapped.error().message;
    EXPECT_EQ(wrapped.value().size(), bits / 8);
    EXPECT_EQ(pair.Unwrap(wrapped.value()), content);
  }
}

TEST(SetKeyWrap, AcceptsALeadingZeroByteAndNeverWrapsTheSameTwice) {
  const Bytes content = Random().Bytes(32);
  const auto key = Known(content);
  const RsaPair pair(2048);
  Bytes modulus = pair.modulus();
  modulus.insert(modulus.begin(), 0);
  const auto first = key->Wrap(modulus, pair.exponent());
  const auto second = key->Wrap(modulus, pair.exponent());
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(pair.Unwrap(first.value()), content);
  EXPECT_NE(first.value(), second.value());
}

TEST(SetKeyWrap, RefusesOtherModuliNamingTheBits) {
  const auto key = SetKey::Generate().Take();
  const Bytes exponent = {1, 0, 1};
  for (const size_t bits : {0U, 8U, 1024U, 2040U, 2056U, 8192U}) {
    const Bytes modulus(bits / 8, 0xff);
    const auto wrapped = key->Wrap(modulus, exponent);
    ASSERT_FALSE(wrapped.ok()) << bits;
    EXPECT_EQ(wrapped.error().code, ErrorCode::kInvalidArgument) << wrapped.error().message;
  }
  const auto small = key->Wrap(Bytes(128, 0xff), exponent);
  EXPECT_NE(small.error().message.find("has 1024 bits, expected 2048, 3072 or 4096"),
            std::string::npos);
}

TEST(SetKeyWrap, RefusesAnEvenModulus) {
  Bytes modulus(256, 0xff);
  modulus.back() = 0xfe;
  EXPECT_FALSE(SetKey::Generate().Take()->Wrap(modulus, Bytes{1, 0, 1}).ok());
}

TEST(SetKeyWrap, RefusesWeakOrAbsurdExponents) {
  const auto key = SetKey::Generate().Take();
  const Bytes modulus = RsaPair(2048).modulus();
  const std::vector<Bytes> exponents = {{},           {0}, {1}, {2}, {1, 0, 0}, Bytes(9, 0xff),
                                        Bytes(600, 1)};
  for (const Bytes& exponent : exponents) {
    const auto wrapped = key->Wrap(modulus, exponent);
    ASSERT_FALSE(wrapped.ok()) << exponent.size();
    EXPECT_EQ(wrapped.error().code, ErrorCode::kInvalidArgument) << wrapped.error().message;
  }
}

TEST(SetKeyWipe, EveryUseAfterAWipeIsRefused) {
  const auto key = SetKey::Generate().Take();
  const auto created = key->CreateDek(kAad).Take();
  const RsaPair pair(2048);
  key->Wipe();
  key->Wipe();
  EXPECT_TRUE(key->wiped());
  EXPECT_EQ(key->Wrap(pair.modulus(), pair.exponent()).error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(key->CreateDek(kAad).error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(key->OpenDek(created.sealed, kAad, created.digest).error().code, ErrorCode::kKeyWiped);
}

TEST(SetKeyLease, WithoutALeaseTheTimerWipesNothing) {
  const auto key = SetKey::Generate().Take();
  EXPECT_FALSE(key->WipeIfLeaseEnded(BootTimeNs()));
  EXPECT_FALSE(key->wiped());
}

TEST(SetKeyLease, TheTimerWipesOnceAfterTheDeadline) {
  const auto key = SetKey::Generate().Take();
  const auto lease = std::make_shared<Lease>();
  lease->Renew(1000, 500);
  key->BindLease(lease);
  EXPECT_FALSE(key->WipeIfLeaseEnded(1499));
  EXPECT_TRUE(key->WipeIfLeaseEnded(1500));
  EXPECT_TRUE(key->wiped());
  EXPECT_FALSE(key->WipeIfLeaseEnded(1501));
}

TEST(SetKeyLease, AnEndedLeaseRefusesUsesBeforeTheTimerCame) {
  const auto key = SetKey::Generate().Take();
  const auto lease = std::make_shared<Lease>();
  lease->Renew(BootTimeNs(), 60'000'000'000);
  key->BindLease(lease);
  const auto created = key->CreateDek(kAad);
  ASSERT_TRUE(created.ok());
  lease->End();
  EXPECT_EQ(key->CreateDek(kAad).error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(key->OpenDek(created.value().sealed, kAad, created.value().digest).error().code,
            ErrorCode::kKeyWiped);
  EXPECT_FALSE(key->wiped());
}

TEST(SetKeyLease, UsesAndWipesFromSeveralThreadsDoNotDisturbEachOther) {
  const auto key = SetKey::Generate().Take();
  const auto created = key->CreateDek(kAad).Take();
  std::vector<std::thread> users;
  for (int i = 0; i < 3; ++i) {
    users.emplace_back([&] {
      for (;;) {
        const auto dek = key->OpenDek(created.sealed, kAad, created.digest);
        if (dek.ok()) continue;
        EXPECT_EQ(dek.error().code, ErrorCode::kKeyWiped);
        return;
      }
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  key->Wipe();
  for (std::thread& user : users) user.join();
}

}  // namespace
}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/keys/dek.h"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <string>
#include <vector>

#include "core/keys/set_key.h"

namespace keyhold {
namespace {

using Bytes = std::vector<uint8_t>;

const Bytes kAad = {'v', '1', ' ', 'd', 'i', 's', 'k'};

Bytes ToBytes(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(SetKeyDek, OpensAgainAndTheDigestIsTheOneOfLuks2) {
  const auto key = SetKey::Generate().Take();
  const auto created = key->CreateDek(kAad);
  ASSERT_TRUE(created.ok()) << created.error().message;
  const auto& [sealed, digest] = created.value();
  const auto dek = key->OpenDek(sealed, kAad, digest);
  ASSERT_TRUE(dek.ok()) << dek.error().message;
  ASSERT_EQ(dek.value().size_bytes(), xts::kDekBytes);
  EXPECT_EQ(digest.iterations, 1000U);

  Bytes expected(32);
  ASSERT_EQ(PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(dek.value().bytes().data()), 64,
                              digest.salt.data(), 32, 1000, EVP_sha256(), 32, expected.data()),
            1);
  EXPECT_EQ(ToBytes(digest.digest), expected);
  EXPECT_TRUE(xts::CreateCipher("auto", dek.value().bytes(), 512).ok());
}

TEST(SetKeyDek, NeverRepeatsDekNonceOrSalt) {
  const auto key = SetKey::Generate().Take();
  const auto first = key->CreateDek(kAad).Take();
  const auto second = key->CreateDek(kAad).Take();
  EXPECT_NE(first.sealed.nonce, second.sealed.nonce);
  EXPECT_NE(first.digest.salt, second.digest.salt);
  const auto first_dek = key->OpenDek(first.sealed, kAad, first.digest).Take();
  const auto second_dek = key->OpenDek(second.sealed, kAad, second.digest).Take();
  EXPECT_FALSE(SecretEqual(first_dek.bytes(), second_dek.bytes()));
}

class TamperedDek : public ::testing::Test {
 protected:
  std::shared_ptr<SetKey> key_ = SetKey::Generate().Take();
  NewDek dek_ = key_->CreateDek(kAad).Take();

  void ExpectRefused(ErrorCode code, const Bytes& aad = kAad) {
    const auto opened = key_->OpenDek(dek_.sealed, aad, dek_.digest);
    ASSERT_FALSE(opened.ok());
    EXPECT_EQ(opened.error().code, code) << opened.error().message;
  }
};

TEST_F(TamperedDek, EveryBitOfTheNonceIsProtected) {
  for (size_t bit = 0; bit < 12 * 8; ++bit) {
    dek_.sealed.nonce[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
    ExpectRefused(ErrorCode::kUnseal);
    dek_.sealed.nonce[bit / 8] ^= static_cast<uint8_t>(1U << (bit % 8));
  }
}

TEST_F(TamperedDek, EveryByteOfTheCiphertextIsProtected) {
  for (uint8_t& byte : dek_.sealed.ciphertext) {
    byte ^= 0x80;
    ExpectRefused(ErrorCode::kUnseal);
    byte ^= 0x80;
  }
}

TEST_F(TamperedDek, EveryByteOfTheTagIsProtected) {
  for (uint8_t& byte : dek_.sealed.tag) {
    byte ^= 1;
    ExpectRefused(ErrorCode::kUnseal);
    byte ^= 1;
  }
}

TEST_F(TamperedDek, AnotherAadIsRefused) {
  ExpectRefused(ErrorCode::kUnseal, {});
  ExpectRefused(ErrorCode::kUnseal, {'v', '1', ' ', 'd', 'i', 's', 'c'});
}

TEST_F(TamperedDek, AnotherSetKeyIsRefused) {
  key_ = SetKey::Generate().Take();
  ExpectRefused(ErrorCode::kUnseal);
}

TEST_F(TamperedDek, AnotherDigestIsRefused) {
  dek_.digest.digest[0] ^= 1;
  ExpectRefused(ErrorCode::kDigest);
}

TEST_F(TamperedDek, AnotherSaltIsRefused) {
  dek_.digest.salt[31] ^= 1;
  ExpectRefused(ErrorCode::kDigest);
}

TEST_F(TamperedDek, TheDekOfAnotherDiskIsRefused) {
  dek_.sealed = key_->CreateDek(kAad).Take().sealed;
  ExpectRefused(ErrorCode::kDigest);
}

TEST_F(TamperedDek, IterationCountsOutOfBoundsAreRefusedWithoutWork) {
  for (const uint32_t iterations : {0U, 999U, 10'000'001U, 4'294'967'295U}) {
    dek_.digest.iterations = iterations;
    ExpectRefused(ErrorCode::kInvalidArgument);
  }
}

TEST_F(TamperedDek, TheMessageSaysOnlyThatDataIsCorrupt) {
  dek_.sealed.tag[0] ^= 1;
  const auto opened = key_->OpenDek(dek_.sealed, kAad, dek_.digest);
  EXPECT_EQ(opened.error().message, "open sealed dek: data is corrupt or was tampered with");
}

TEST_F(TamperedDek, AnOversizedAadIsRefused) {
  ExpectRefused(ErrorCode::kInvalidArgument, Bytes(4097));
}

TEST_F(TamperedDek, FailuresLeaveNothingInOpensslsErrorQueue) {
  ERR_clear_error();
  dek_.sealed.tag[0] ^= 1;
  ExpectRefused(ErrorCode::kUnseal);
  EXPECT_FALSE(key_->Wrap(Bytes(128, 0xff), Bytes{1, 0, 1}).ok());
  EXPECT_EQ(ERR_peek_error(), 0U);
}

}  // namespace
}  // namespace keyhold

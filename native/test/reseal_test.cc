// SPDX-License-Identifier: Apache-2.0
// A DEK goes from one set key to another without leaving secret memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "core/keys/set_key.h"

namespace keyhold {
namespace {

using Bytes = std::vector<uint8_t>;

class ResealTest : public ::testing::Test {
 protected:
  const Bytes old_aad_ = {'o', 'l', 'd'};
  const Bytes new_aad_ = {'n', 'e', 'w'};
  std::shared_ptr<SetKey> from_ = SetKey::Generate().Take();
  std::shared_ptr<SetKey> to_ = SetKey::Generate().Take();
  NewDek dek_ = from_->CreateDek(old_aad_).Take();

  Result<SealedDek> Reseal() {
    return from_->ResealDek(dek_.sealed, old_aad_, dek_.digest, *to_, new_aad_);
  }
  ErrorCode Refusal() {
    const auto result = Reseal();
    EXPECT_FALSE(result.ok());
    return result.ok() ? ErrorCode::kState : result.error().code;
  }
};

TEST_F(ResealTest, TheOtherKeyOpensTheSameDek) {
  const SealedDek resealed = Reseal().Take();
  const auto before = from_->OpenDek(dek_.sealed, old_aad_, dek_.digest).Take();
  const auto after = to_->OpenDek(resealed, new_aad_, dek_.digest).Take();
  EXPECT_TRUE(SecretEqual(before.bytes(), after.bytes()));
}

TEST_F(ResealTest, TheOldKeyDoesNotOpenTheNewSeal) {
  const SealedDek resealed = Reseal().Take();
  EXPECT_EQ(from_->OpenDek(resealed, new_aad_, dek_.digest).error().code, ErrorCode::kUnseal);
}

TEST_F(ResealTest, TheNewSealIsBoundToTheNewAdditionalData) {
  const SealedDek resealed = Reseal().Take();
  EXPECT_EQ(to_->OpenDek(resealed, old_aad_, dek_.digest).error().code, ErrorCode::kUnseal);
}

TEST_F(ResealTest, AKeyMayResealForItself) {
  to_ = from_;
  const SealedDek resealed = Reseal().Take();
  EXPECT_TRUE(from_->OpenDek(resealed, new_aad_, dek_.digest).ok());
}

TEST_F(ResealTest, ABrokenSealIsRefused) {
  dek_.sealed.tag[0] ^= 1;
  EXPECT_EQ(Refusal(), ErrorCode::kUnseal);
}

TEST_F(ResealTest, AnotherDekThanTheDigestsIsRefused) {
  dek_.digest = from_->CreateDek(old_aad_).Take().digest;
  EXPECT_EQ(Refusal(), ErrorCode::kDigest);
}

TEST_F(ResealTest, AWipedOldKeyIsRefused) {
  from_->Wipe();
  EXPECT_EQ(Refusal(), ErrorCode::kKeyWiped);
}

TEST_F(ResealTest, AWipedNewKeyIsRefused) {
  to_->Wipe();
  EXPECT_EQ(Refusal(), ErrorCode::kKeyWiped);
}

TEST_F(ResealTest, AnEndedLeaseOfTheOldKeyIsRefused) {
  from_->BindLease(std::make_shared<Lease>());
  EXPECT_EQ(Refusal(), ErrorCode::kKeyWiped);
}

TEST_F(ResealTest, AnEndedLeaseOfTheNewKeyIsRefused) {
  to_->BindLease(std::make_shared<Lease>());
  EXPECT_EQ(Refusal(), ErrorCode::kKeyWiped);
}

TEST_F(ResealTest, TwoThreadsMayGoOppositeWays) {
  const NewDek back = to_->CreateDek(old_aad_).Take();
  std::thread other([&] {
    for (int i = 0; i < 50; ++i) {
      EXPECT_TRUE(to_->ResealDek(back.sealed, old_aad_, back.digest, *from_, new_aad_).ok());
    }
  });
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Reseal().ok());
  other.join();
}

}  // namespace
}  // namespace keyhold

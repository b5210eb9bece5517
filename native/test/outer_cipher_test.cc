// SPDX-License-Identifier: Apache-2.0
#include "core/xts/outer_cipher.h"

#include <gtest/gtest.h>

#include <vector>

#include "test/random_bytes.h"
#include "test/xts_oracle.h"

namespace keyhold::xts {
namespace {

using testing::OpensslEncrypt;
using testing::Random;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kHeaderAreaBytes = 16 << 20;

class OuterCipherTest : public ::testing::Test {
 protected:
  Random random_;
  Bytes dek_ = random_.Bytes(64);
  Bytes plain_ = random_.Bytes(16384);
  std::shared_ptr<OuterCipher> cipher_ = OuterCipher::Create(dek_, 4096).Take();
};

TEST_F(OuterCipherTest, EqualsOpensslFromTheStartOfTheContainer) {
  Bytes bytes = plain_;
  ASSERT_TRUE(cipher_->Encrypt(bytes, 16384).ok());
  EXPECT_EQ(bytes, OpensslEncrypt(dek_, plain_, 32, 4096));
  ASSERT_TRUE(cipher_->Decrypt(bytes, 16384).ok());
  EXPECT_EQ(bytes, plain_);
}

TEST_F(OuterCipherTest, PartOfASectorIsRefusedAndNothingHasChanged) {
  Bytes bytes(plain_.begin(), plain_.begin() + 512);
  EXPECT_EQ(cipher_->Encrypt(bytes, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(bytes, Bytes(plain_.begin(), plain_.begin() + 512));
}

TEST_F(OuterCipherTest, AnOffsetWithinASectorIsRefused) {
  EXPECT_FALSE(cipher_->Decrypt(plain_, 512).ok());
}

TEST_F(OuterCipherTest, TheDisksDataIsOutOfReach) {
  EXPECT_FALSE(cipher_->Decrypt(plain_, kHeaderAreaBytes).ok());
  EXPECT_FALSE(cipher_->Decrypt(plain_, kHeaderAreaBytes - 4096).ok());
  EXPECT_FALSE(cipher_->Decrypt(plain_, UINT64_MAX - 4095).ok());
}

TEST_F(OuterCipherTest, AfterWipeItRefusesBothWays) {
  cipher_->Wipe();
  cipher_->Wipe();
  EXPECT_EQ(cipher_->Encrypt(plain_, 0).error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(cipher_->Decrypt(plain_, 0).error().code, ErrorCode::kKeyWiped);
}

TEST_F(OuterCipherTest, AShortDekIsRefused) {
  EXPECT_FALSE(OuterCipher::Create(Bytes(63, 1), 512).ok());
}

}  // namespace
}  // namespace keyhold::xts

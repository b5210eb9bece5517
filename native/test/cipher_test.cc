// SPDX-License-Identifier: Apache-2.0
#include "core/xts/cipher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "test/random_bytes.h"
#include "test/xts_ieee_vectors.h"
#include "test/xts_oracle.h"

namespace keyhold::xts {
namespace {

using testing::FromHex;
using testing::MakeCipher;
using testing::OpensslEncrypt;
using testing::Random;

class EveryKernel : public ::testing::TestWithParam<std::string_view> {};

INSTANTIATE_TEST_SUITE_P(Xts, EveryKernel, ::testing::ValuesIn(AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(EveryKernel, MatchesTheVectorsOfIeee1619BothWays) {
  std::vector<uint8_t> plain(512);
  for (size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<uint8_t>(i);
  const auto cipher = MakeCipher(GetParam(), FromHex(kIeeeKeyHex), 512);
  for (const IeeeVector& vector : kIeeeVectors) {
    std::vector<uint8_t> bytes(512);
    cipher->EncryptRun(plain.data(), bytes.data(), 512, vector.data_unit);
    EXPECT_EQ(bytes, FromHex(vector.ciphertext_hex)) << "vector " << vector.number;
    cipher->DecryptRun(bytes.data(), bytes.data(), 512, vector.data_unit);
    EXPECT_EQ(bytes, plain) << "vector " << vector.number;
  }
}

TEST_P(EveryKernel, EqualsOpensslOnRandomRunsAtEveryAlignment) {
  Random random;
  SCOPED_TRACE(random.Trace());
  for (int round = 0; round < 200; ++round) {
    const uint32_t sector = random.Below(2) == 0 ? 512 : 4096;
    const size_t length = (1 + random.Below(sector == 512 ? 40 : 6)) * sector;
    // Numbers beyond 32 bits, and runs that cross 2^32, must keep all 64 bits of plain64.
    const uint64_t first_unit =
        round % 4 == 0 ? (uint64_t{1} << 32) - 16 : random.Below(uint64_t{1} << 55) * 8;
    const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
    const std::vector<uint8_t> plain = random.Bytes(length);
    const std::vector<uint8_t> expected = OpensslEncrypt(dek, plain, first_unit, sector);
    const auto cipher = MakeCipher(GetParam(), dek, sector);

    const size_t in_shift = random.Below(64);
    const size_t out_shift = random.Below(64);
    std::vector<uint8_t> in(length + 64);
    std::vector<uint8_t> out(length + 64, 0xcc);
    std::memcpy(in.data() + in_shift, plain.data(), length);
    cipher->EncryptRun(in.data() + in_shift, out.data() + out_shift, length, first_unit);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), out.data() + out_shift)) << round;
    ASSERT_TRUE(std::equal(plain.begin(), plain.end(), in.data() + in_shift)) << "input changed";
    ASSERT_EQ(std::count(out.begin(), out.begin() + static_cast<long>(out_shift), 0xcc),
              static_cast<long>(out_shift));
    ASSERT_EQ(std::count(out.begin() + static_cast<long>(out_shift + length), out.end(), 0xcc),
              static_cast<long>(64 - out_shift));

    cipher->DecryptRun(out.data() + out_shift, out.data() + out_shift, length, first_unit);
    ASSERT_TRUE(std::equal(plain.begin(), plain.end(), out.data() + out_shift)) << "in place";
  }
}

TEST_P(EveryKernel, ARunEqualsItsSectorsOneByOne) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const auto cipher = MakeCipher(GetParam(), random.Bytes(kDekBytes), 4096);
  const std::vector<uint8_t> plain = random.Bytes(4096 * 9);
  std::vector<uint8_t> run(plain.size());
  std::vector<uint8_t> single(plain.size());
  cipher->EncryptRun(plain.data(), run.data(), run.size(), 24);
  for (size_t at = 0; at < plain.size(); at += 4096) {
    cipher->EncryptRun(plain.data() + at, single.data() + at, 4096, 24 + at / 512);
  }
  EXPECT_EQ(run, single);
}

TEST_P(EveryKernel, AnEmptyRunTouchesNothing) {
  Random random;
  const auto cipher = MakeCipher(GetParam(), random.Bytes(kDekBytes), 512);
  uint8_t byte = 0x5a;
  cipher->EncryptRun(&byte, &byte, 0, 0);
  cipher->DecryptRun(&byte, &byte, 0, 0);
  EXPECT_EQ(byte, 0x5a);
}

TEST_P(EveryKernel, NamesItself) {
  Random random;
  EXPECT_EQ(MakeCipher(GetParam(), random.Bytes(kDekBytes), 512)->kernel(), GetParam());
}

TEST_P(EveryKernel, RefusesEqualHalves) {
  Random random;
  std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  std::copy(dek.begin(), dek.begin() + kDekBytes / 2, dek.begin() + kDekBytes / 2);
  const auto cipher = CreateCipher(GetParam(), dek, 512);
  ASSERT_FALSE(cipher.ok());
  EXPECT_EQ(cipher.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(EveryKernel, RefusesADekOfAnotherLength) {
  Random random;
  for (const size_t length : {0U, 32U, 63U, 65U, 128U}) {
    const auto cipher = CreateCipher(GetParam(), random.Bytes(length), 512);
    ASSERT_FALSE(cipher.ok()) << length;
    EXPECT_EQ(cipher.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST_P(EveryKernel, RefusesOtherSectorSizes) {
  Random random;
  for (const uint32_t size : {0U, 16U, 1024U, 8192U}) {
    ASSERT_FALSE(CreateCipher(GetParam(), random.Bytes(kDekBytes), size).ok()) << size;
  }
}

using EveryKernelDeathTest = EveryKernel;
INSTANTIATE_TEST_SUITE_P(Xts, EveryKernelDeathTest, ::testing::ValuesIn(AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(EveryKernelDeathTest, APartOfASectorIsAProgrammersError) {
  Random random;
  const auto cipher = MakeCipher(GetParam(), random.Bytes(kDekBytes), 4096);
  std::vector<uint8_t> bytes(4096);
  EXPECT_DEATH(cipher->EncryptRun(bytes.data(), bytes.data(), 512, 0), "");
}

TEST_P(EveryKernel, HolesReadAsZerosBetweenData) {
  Random random;
  SCOPED_TRACE(random.Trace());
  for (int round = 0; round < 50; ++round) {
    const uint32_t sector = random.Below(2) == 0 ? 512 : 4096;
    const size_t count = 1 + random.Below(12);
    const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
    const auto cipher = MakeCipher(GetParam(), dek, sector);
    std::vector<uint8_t> expected = random.Bytes(count * sector);
    std::vector<uint8_t> stored = OpensslEncrypt(dek, expected, 80, sector);
    for (size_t i = 0; i < count; ++i) {
      if (random.Below(2) == 0) continue;
      std::memset(stored.data() + i * sector, 0, sector);
      std::memset(expected.data() + i * sector, 0, sector);
    }
    std::vector<uint8_t> out(stored.size(), 0xcc);
    DecryptRunWithHoles(*cipher, stored.data(), out.data(), stored.size(), 80, sector);
    ASSERT_EQ(out, expected) << round;
    DecryptRunWithHoles(*cipher, stored.data(), stored.data(), stored.size(), 80, sector);
    ASSERT_EQ(stored, expected) << round << " in place";
  }
}

TEST_P(EveryKernel, ASectorWithOneByteSetIsNoHole) {
  Random random;
  const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  const auto cipher = MakeCipher(GetParam(), dek, 512);
  for (const size_t position : {0U, 1U, 255U, 511U}) {
    std::vector<uint8_t> stored(512);
    stored[position] = 1;
    std::vector<uint8_t> out(512);
    DecryptRunWithHoles(*cipher, stored.data(), out.data(), 512, 0, 512);
    EXPECT_EQ(OpensslEncrypt(dek, out, 0, 512), stored) << position;
  }
}

TEST(Cipher, AutoTakesTheFirstAvailableKernel) {
  Random random;
  EXPECT_EQ(MakeCipher("auto", random.Bytes(kDekBytes), 512)->kernel(), AvailableKernels().front());
}

TEST(Cipher, EvpIsAlwaysAvailableAndLast) { EXPECT_EQ(AvailableKernels().back(), "evp"); }

TEST(Cipher, RefusesAnUnknownKernelNamingTheKnown) {
  Random random;
  const auto cipher = CreateCipher("rot13", random.Bytes(kDekBytes), 512);
  ASSERT_FALSE(cipher.ok());
  EXPECT_EQ(cipher.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(cipher.error().message.find("rot13"), std::string::npos);
  EXPECT_NE(cipher.error().message.find("evp"), std::string::npos);
}

TEST(AllZero, SeesASetBitAtEveryPosition) {
  for (size_t length = 0; length < 70; ++length) {
    std::vector<uint8_t> bytes(length);
    EXPECT_TRUE(AllZero(bytes.data(), length));
    for (size_t i = 0; i < length; ++i) {
      bytes[i] = 0x80;
      EXPECT_FALSE(AllZero(bytes.data(), length)) << length << " " << i;
      bytes[i] = 0;
    }
  }
}

}  // namespace
}  // namespace keyhold::xts

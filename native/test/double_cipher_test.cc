// SPDX-License-Identifier: Apache-2.0
// Double encryption against two passes of OpenSSL, whose sector numbers the test counts itself.
#include "core/xts/double_cipher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "test/random_bytes.h"
#include "test/xts_oracle.h"

namespace keyhold::xts {
namespace {

using testing::MakeCipher;
using testing::OpensslEncrypt;
using testing::Random;
using Bytes = std::vector<uint8_t>;

constexpr uint64_t kInnerDataUnit = 16 * 1024 * 1024 / 512;  // in the outer container
constexpr size_t kSectorsMax = 90;                           // several pieces, odd remainders

struct Pair {
  explicit Pair(Random& random) : inner(random.Bytes(64)), outer(random.Bytes(64)) {}
  Bytes inner;
  Bytes outer;

  std::unique_ptr<Cipher> Make(std::string_view kernel, uint32_t sector) const {
    auto cipher = CreateDoubleCipher(kernel, inner, outer, sector);
    EXPECT_TRUE(cipher.ok());
    return cipher.Take();
  }
  Bytes Expected(const Bytes& plain, uint64_t unit, size_t sector) const {
    return OpensslEncrypt(outer, OpensslEncrypt(inner, plain, unit, sector), unit + kInnerDataUnit,
                          sector);
  }
};

class EveryDoubleKernel : public ::testing::TestWithParam<std::string_view> {};

INSTANTIATE_TEST_SUITE_P(Double, EveryDoubleKernel, ::testing::ValuesIn(AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(EveryDoubleKernel, EqualsTwoPassesOfOpensslForAllShapes) {
  Random random;
  SCOPED_TRACE(random.Trace());
  for (int round = 0; round < 60; ++round) {
    const uint32_t sector = round % 2 == 0 ? 512 : 4096;
    const Pair deks(random);
    const auto cipher = deks.Make(GetParam(), sector);
    const Bytes plain = random.Bytes((1 + random.Below(kSectorsMax)) * sector);
    const uint64_t unit = random.Below(uint64_t{1} << 54) / 8 * 8;
    const size_t shift_in = random.Below(64);
    const size_t shift_out = random.Below(64);
    Bytes in(plain.size() + 64);
    Bytes out(plain.size() + 64);
    std::copy(plain.begin(), plain.end(), in.begin() + static_cast<ptrdiff_t>(shift_in));
    cipher->EncryptRun(in.data() + shift_in, out.data() + shift_out, plain.size(), unit);
    const Bytes expected = deks.Expected(plain, unit, sector);
    ASSERT_EQ(std::memcmp(expected.data(), out.data() + shift_out, plain.size()), 0);
    ASSERT_EQ(std::memcmp(plain.data(), in.data() + shift_in, plain.size()), 0);
    cipher->DecryptRun(out.data() + shift_out, in.data() + shift_in, plain.size(), unit);
    ASSERT_EQ(std::memcmp(plain.data(), in.data() + shift_in, plain.size()), 0);
  }
}

TEST_P(EveryDoubleKernel, WorksInPlace) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const Pair deks(random);
  const auto cipher = deks.Make(GetParam(), 512);
  const Bytes plain = random.Bytes(77 * 512);
  Bytes bytes = plain;
  cipher->EncryptRun(bytes.data(), bytes.data(), bytes.size(), 5);
  EXPECT_EQ(bytes, deks.Expected(plain, 5, 512));
  cipher->DecryptRun(bytes.data(), bytes.data(), bytes.size(), 5);
  EXPECT_EQ(bytes, plain);
}

TEST_P(EveryDoubleKernel, AHoleIsZeroOuterCiphertext) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const Pair deks(random);
  const auto cipher = deks.Make(GetParam(), 512);
  const Bytes plain = random.Bytes(512);
  Bytes stored(3 * 512);
  cipher->EncryptRun(plain.data(), stored.data() + 512, 512, 1);
  DecryptRunWithHoles(*cipher, stored.data(), stored.data(), stored.size(), 0, 512);
  EXPECT_TRUE(AllZero(stored.data(), 512));
  EXPECT_EQ(std::memcmp(stored.data() + 512, plain.data(), 512), 0);
  EXPECT_TRUE(AllZero(stored.data() + 1024, 512));
}

/// A sector whose inner ciphertext is zero is data: only what the store holds makes a hole.
TEST_P(EveryDoubleKernel, ZeroInnerCiphertextIsNoHole) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const Pair deks(random);
  const auto inner = MakeCipher("evp", deks.inner, 512);
  Bytes plain(512);
  inner->DecryptRun(plain.data(), plain.data(), 512, 9);
  const auto cipher = deks.Make(GetParam(), 512);
  Bytes stored(512);
  cipher->EncryptRun(plain.data(), stored.data(), 512, 9);
  EXPECT_FALSE(AllZero(stored.data(), 512));
  DecryptRunWithHoles(*cipher, stored.data(), stored.data(), 512, 9, 512);
  EXPECT_EQ(stored, plain);
}

TEST_P(EveryDoubleKernel, WipeZeroesBothSchedules) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const Pair deks(random);
  const Bytes zeros(64);
  const auto cipher = deks.Make(GetParam(), 512);
  cipher->Wipe();
  cipher->Wipe();
  // OpenSSL refuses the equal halves of a wiped key; the other kernels run on zero round keys.
  if (GetParam() == "evp") return;
  Bytes first(512);
  cipher->EncryptRun(first.data(), first.data(), 512, 0);
  const auto other = Pair(random).Make(GetParam(), 512);
  other->Wipe();
  Bytes second(512);
  other->EncryptRun(second.data(), second.data(), 512, 0);
  EXPECT_EQ(first, second);
}

TEST_P(EveryDoubleKernel, HasTheKernelsName) {
  Random random;
  EXPECT_EQ(Pair(random).Make(GetParam(), 512)->kernel(), GetParam());
}

ErrorCode Refusal(const Bytes& inner, const Bytes& outer, uint32_t sector = 512) {
  const auto cipher = CreateDoubleCipher("auto", inner, outer, sector);
  EXPECT_FALSE(cipher.ok());
  return cipher.ok() ? ErrorCode::kState : cipher.error().code;
}

TEST(DoubleCipher, EqualDeksAreRefused) {
  Random random;
  const Bytes dek = random.Bytes(64);
  EXPECT_EQ(Refusal(dek, dek), ErrorCode::kInvalidArgument);
}

TEST(DoubleCipher, ASharedDataKeyIsRefused) {
  Random random;
  const Bytes inner = random.Bytes(64);
  Bytes outer = random.Bytes(64);
  std::copy_n(inner.begin(), 32, outer.begin());
  EXPECT_EQ(Refusal(inner, outer), ErrorCode::kInvalidArgument);
}

TEST(DoubleCipher, ASharedTweakKeyIsRefused) {
  Random random;
  const Bytes inner = random.Bytes(64);
  Bytes outer = random.Bytes(64);
  std::copy_n(inner.begin() + 32, 32, outer.begin() + 32);
  EXPECT_EQ(Refusal(inner, outer), ErrorCode::kInvalidArgument);
}

TEST(DoubleCipher, EqualHalvesOfTheOuterDekAreRefused) {
  Random random;
  Bytes outer = random.Bytes(64);
  std::copy_n(outer.begin(), 32, outer.begin() + 32);
  EXPECT_EQ(Refusal(random.Bytes(64), outer), ErrorCode::kInvalidArgument);
}

TEST(DoubleCipher, AShortOuterDekIsRefused) {
  Random random;
  EXPECT_EQ(Refusal(random.Bytes(64), random.Bytes(63)), ErrorCode::kInvalidArgument);
}

TEST(DoubleCipher, AnotherSectorSizeIsRefused) {
  Random random;
  EXPECT_EQ(Refusal(random.Bytes(64), random.Bytes(64), 1024), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace keyhold::xts

// SPDX-License-Identifier: Apache-2.0
//
// NIST's CAVP vectors for XTS-AES-256 with data-unit sequence numbers: XTSTestVectors.zip, "format
// tweak value input - data unit seq no/XTSGenAES256.rsp" (CAVS 11.0, 2011), unmodified in
// test/data. Its data units are of 256 and 384 bits, besides some of 140 and 250 bits, which no
// sector has. Without ciphertext stealing the blocks of a data unit are independent of what follows
// them, so that a sector which begins with a vector's plaintext begins, encrypted, with its
// ciphertext.
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <vector>

#include "core/xts/cipher.h"
#include "test/random_bytes.h"
#include "test/xts_oracle.h"

namespace keyhold::xts {
namespace {

using testing::FromHex;
using testing::MakeCipher;
using testing::Random;

struct NistVector {
  int count = 0;
  size_t bits = 0;
  uint64_t unit = 0;
  std::vector<uint8_t> key{};
  std::vector<uint8_t> plain{};
  std::vector<uint8_t> stored{};
};

uint64_t Number(std::string_view digits) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  EXPECT_TRUE(error == std::errc() && end == digits.data() + digits.size()) << digits;
  return value;
}

/// Every vector of the file; each begins with its COUNT.
std::vector<NistVector> ReadVectors() {
  std::ifstream file(KEYHOLD_TEST_DATA "/XTSGenAES256.rsp");
  std::vector<NistVector> vectors;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const size_t equals = line.find(" = ");
    if (line.front() == '#' || equals == std::string::npos) continue;
    const std::string name = line.substr(0, equals);
    const std::string value = line.substr(equals + 3);
    if (name == "COUNT") {
      vectors.push_back({static_cast<int>(Number(value))});
    } else if (name == "DataUnitLen") {
      vectors.back().bits = Number(value);
    } else if (name == "Key") {
      vectors.back().key = FromHex(value);
    } else if (name == "DataUnitSeqNumber") {
      vectors.back().unit = Number(value);
    } else if (name == "PT") {
      vectors.back().plain = FromHex(value);
    } else if (name == "CT") {
      vectors.back().stored = FromHex(value);
    } else {
      ADD_FAILURE() << "unknown field " << name;
    }
  }
  return vectors;
}

std::vector<NistVector> VectorsOfWholeBlocks() {
  std::vector<NistVector> vectors = ReadVectors();
  EXPECT_EQ(vectors.size(), 1000U) << "the file is not NIST's";
  std::erase_if(vectors, [](const NistVector& vector) { return vector.bits % 128 != 0; });
  EXPECT_EQ(vectors.size(), 600U);
  return vectors;
}

class NistXts : public ::testing::TestWithParam<std::string_view> {};

INSTANTIATE_TEST_SUITE_P(Xts, NistXts, ::testing::ValuesIn(AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

/// The vector's sector stands anywhere in a run, with other data around it.
void Check(std::string_view kernel, const NistVector& vector, uint32_t sector, Random& random) {
  const uint64_t units = sector / 512;
  const size_t before = std::min<uint64_t>(random.Below(6), vector.unit / units);
  const auto at = static_cast<ptrdiff_t>(before * sector);
  const uint64_t first_unit = vector.unit - before * units;
  const auto cipher = MakeCipher(kernel, vector.key, sector);

  std::vector<uint8_t> bytes = random.Bytes((before + 1 + random.Below(3)) * sector);
  std::copy(vector.plain.begin(), vector.plain.end(), bytes.begin() + at);
  cipher->EncryptRun(bytes.data(), bytes.data(), bytes.size(), first_unit);
  ASSERT_TRUE(std::equal(vector.stored.begin(), vector.stored.end(), bytes.begin() + at));

  bytes = random.Bytes(bytes.size());
  std::copy(vector.stored.begin(), vector.stored.end(), bytes.begin() + at);
  cipher->DecryptRun(bytes.data(), bytes.data(), bytes.size(), first_unit);
  ASSERT_TRUE(std::equal(vector.plain.begin(), vector.plain.end(), bytes.begin() + at));
}

TEST_P(NistXts, SectorsBeginAsTheVectorsOfCavpSayBothWays) {
  Random random;
  SCOPED_TRACE(random.Trace());
  for (const NistVector& vector : VectorsOfWholeBlocks()) {
    ASSERT_EQ(vector.plain.size() * 8, vector.bits);
    ASSERT_EQ(vector.stored.size() * 8, vector.bits);
    for (const uint32_t sector : {512U, 4096U}) {
      SCOPED_TRACE("COUNT = " + std::to_string(vector.count) + ", sector " +
                   std::to_string(sector));
      Check(GetParam(), vector, sector, random);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace keyhold::xts

// SPDX-License-Identifier: Apache-2.0
//
// Every kernel against OpenSSL over all shapes of runs, in buffers whose neighbours fault.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/xts/cipher.h"
#include "test/random_bytes.h"
#include "test/xts_oracle.h"

namespace keyhold::xts {
namespace {

using testing::MakeCipher;
using testing::OpensslEncrypt;
using testing::Random;

constexpr size_t kSectorsMax = 70;  // beyond every kernel's batches, with odd remainders

class EveryXtsKernel : public ::testing::TestWithParam<std::string_view> {};

INSTANTIATE_TEST_SUITE_P(Xts, EveryXtsKernel, ::testing::ValuesIn(AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

/// Whole pages between two that may not be touched.
class GuardedPages {
 public:
  explicit GuardedPages(size_t bytes_min) {
    page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (bytes_min + page_ - 1) / page_ * page_;
    void* mapping = mmap(nullptr, size_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(mapping, MAP_FAILED);
    base_ = static_cast<uint8_t*>(mapping) + page_;
    EXPECT_EQ(mprotect(base_, size_, PROT_READ | PROT_WRITE), 0);
  }
  GuardedPages(const GuardedPages&) = delete;
  GuardedPages& operator=(const GuardedPages&) = delete;
  ~GuardedPages() { munmap(base_ - page_, size_ + 2 * page_); }

  /// `length` bytes that end where the upper guard begins, or begin where the lower one ends.
  uint8_t* AtEnd(size_t length) { return base_ + size_ - length; }
  uint8_t* AtStart() { return base_; }
  void ReadOnly() { EXPECT_EQ(mprotect(base_, size_, PROT_READ), 0); }
  void ReadWrite() { EXPECT_EQ(mprotect(base_, size_, PROT_READ | PROT_WRITE), 0); }

 private:
  size_t page_ = 0;
  size_t size_ = 0;
  uint8_t* base_ = nullptr;
};

/// Numbers around the borders of 32 and 64 bits, and anywhere.
uint64_t SomeUnit(Random& random) {
  switch (random.Below(4)) {
    case 0:
      return random.Below(1000);
    case 1:
      return (uint64_t{1} << 32) - random.Below(100);
    case 2:
      return (uint64_t{1} << 55) - 1 - random.Below(1 << 20);  // the last units of 2^64 bytes
    default:
      return random.Below(uint64_t{1} << 55);
  }
}

bool Equal(const std::vector<uint8_t>& expected, const uint8_t* bytes) {
  return std::equal(expected.begin(), expected.end(), bytes);
}

constexpr size_t kShiftMax = 64;

struct Buffers {
  Buffers() : in(kSectorsMax * 4096 + kShiftMax), out(kSectorsMax * 4096 + kShiftMax) {}
  GuardedPages in;
  GuardedPages out;
};

/// Where both buffers lie: flush against a guard, or askew, each at another place of a cache line.
enum class Place { kAtStart, kAtEnd, kAskew };

uint8_t* Put(GuardedPages& pages, Place place, size_t length, size_t shift) {
  if (place == Place::kAtEnd) return pages.AtEnd(length);
  return pages.AtStart() + (place == Place::kAskew ? shift : 0);
}

/// One run both ways, from pages that may not be written, then in place.
void Compare(const Cipher& cipher, Buffers& buffers, Place place, const std::vector<uint8_t>& plain,
             const std::vector<uint8_t>& stored, uint64_t first_unit) {
  const size_t length = plain.size();
  uint8_t* const in = Put(buffers.in, place, length, 1 + length / 512 % 63);
  uint8_t* const out = Put(buffers.out, place, length, 63 - length / 512 % 61);
  std::copy(plain.begin(), plain.end(), in);
  buffers.in.ReadOnly();
  cipher.EncryptRun(in, out, length, first_unit);
  ASSERT_TRUE(Equal(stored, out)) << "encrypt";
  buffers.in.ReadWrite();
  buffers.out.ReadOnly();
  cipher.DecryptRun(out, in, length, first_unit);
  buffers.out.ReadWrite();
  ASSERT_TRUE(Equal(plain, in)) << "decrypt";
  cipher.EncryptRun(in, in, length, first_unit);
  ASSERT_TRUE(Equal(stored, in)) << "encrypt in place";
  cipher.DecryptRun(out, out, length, first_unit);
  ASSERT_TRUE(Equal(plain, out)) << "decrypt in place";
}

void CompareEveryLength(std::string_view kernel, uint32_t sector) {
  Random random;
  SCOPED_TRACE(random.Trace());
  Buffers buffers;
  for (size_t count = 1; count <= kSectorsMax; ++count) {
    const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
    const uint64_t first_unit = SomeUnit(random);
    const std::vector<uint8_t> plain = random.Bytes(count * sector);
    const std::vector<uint8_t> stored = OpensslEncrypt(dek, plain, first_unit, sector);
    const auto cipher = MakeCipher(kernel, dek, sector);
    for (const Place place : {Place::kAtStart, Place::kAtEnd, Place::kAskew}) {
      SCOPED_TRACE(std::to_string(count) + " sectors from " + std::to_string(first_unit));
      Compare(*cipher, buffers, place, plain, stored, first_unit);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_P(EveryXtsKernel, EqualsOpensslOnRunsOf512ByteSectorsWithinGuardPages) {
  CompareEveryLength(GetParam(), 512);
}

TEST_P(EveryXtsKernel, EqualsOpensslOnRunsOf4096ByteSectorsWithinGuardPages) {
  CompareEveryLength(GetParam(), 4096);
}

TEST_P(EveryXtsKernel, TakesEveryPairOfAlignmentsWithinACacheLine) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  const auto cipher = MakeCipher(GetParam(), dek, 512);
  const std::vector<uint8_t> plain = random.Bytes(512 * 5);
  const std::vector<uint8_t> stored = OpensslEncrypt(dek, plain, 7, 512);
  std::vector<uint8_t> in(plain.size() + 128);
  std::vector<uint8_t> out(plain.size() + 128);
  for (size_t from = 0; from < 64; ++from) {
    for (size_t to = 0; to < 64; ++to) {
      std::copy(plain.begin(), plain.end(), in.begin() + static_cast<ptrdiff_t>(from));
      cipher->EncryptRun(in.data() + from, out.data() + to, plain.size(), 7);
      ASSERT_TRUE(Equal(stored, out.data() + to)) << from << " to " << to;
      cipher->DecryptRun(out.data() + to, in.data() + from, plain.size(), 7);
      ASSERT_TRUE(Equal(plain, in.data() + from)) << to << " to " << from;
    }
  }
}

TEST_P(EveryXtsKernel, KeepsNumbersOf64BitsWithoutACarryOutOfThem) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  const std::vector<uint8_t> plain = random.Bytes(512 * 9);
  const uint64_t last = ~uint64_t{0};  // the numbers wrap; the upper 64 bits of the tweak stay zero
  const auto cipher = MakeCipher(GetParam(), dek, 512);
  std::vector<uint8_t> out(plain.size());
  cipher->EncryptRun(plain.data(), out.data(), out.size(), last - 2);
  EXPECT_EQ(out, OpensslEncrypt(dek, plain, last - 2, 512));
}

TEST_P(EveryXtsKernel, AnotherNumberKeyOrSectorSizeGivesAnotherCiphertext) {
  Random random;
  SCOPED_TRACE(random.Trace());
  std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  const std::vector<uint8_t> plain = random.Bytes(4096);
  std::vector<std::vector<uint8_t>> seen;
  const auto encrypt = [&](uint32_t sector, uint64_t unit) {
    std::vector<uint8_t> out(plain.size());
    MakeCipher(GetParam(), dek, sector)->EncryptRun(plain.data(), out.data(), out.size(), unit);
    EXPECT_EQ(std::count(seen.begin(), seen.end(), out), 0);
    seen.push_back(out);
  };
  encrypt(512, 0);
  encrypt(4096, 0);
  encrypt(4096, 8);
  encrypt(4096, uint64_t{1} << 32);
  dek[0] ^= 1;
  encrypt(4096, 0);
  dek[32] ^= 1;
  encrypt(4096, 0);
}

TEST_P(EveryXtsKernel, RunsOfSeveralThreadsOnOneCipherDoNotDisturbEachOther) {
  Random random;
  SCOPED_TRACE(random.Trace());
  const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
  const std::vector<uint8_t> plain = random.Bytes(512 * 23);
  const std::vector<uint8_t> stored = OpensslEncrypt(dek, plain, 99, 512);
  const auto cipher = MakeCipher(GetParam(), dek, 512);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& wrong_runs : wrong) {
    threads.emplace_back([&] {
      std::vector<uint8_t> bytes(plain.size());
      for (int i = 0; i < 200; ++i) {
        cipher->EncryptRun(plain.data(), bytes.data(), bytes.size(), 99);
        if (bytes != stored) ++wrong_runs;
        cipher->DecryptRun(bytes.data(), bytes.data(), bytes.size(), 99);
        if (bytes != plain) ++wrong_runs;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

/// As from a mapped page cache into a buffer.
TEST_P(EveryXtsKernel, DecryptsAroundHolesFromPagesThatMayNotBeWritten) {
  Random random;
  SCOPED_TRACE(random.Trace());
  Buffers buffers;
  for (const uint32_t sector : {512U, 4096U}) {
    const std::vector<uint8_t> dek = random.Bytes(kDekBytes);
    const auto cipher = MakeCipher(GetParam(), dek, sector);
    for (size_t count = 1; count <= kSectorsMax; ++count) {
      SCOPED_TRACE(std::to_string(count) + " sectors of " + std::to_string(sector));
      std::vector<uint8_t> plain = random.Bytes(count * sector);
      std::vector<uint8_t> stored = OpensslEncrypt(dek, plain, 16, sector);
      for (size_t at = 0; at < plain.size(); at += sector) {
        if (random.Below(3) != 0) continue;
        std::memset(plain.data() + at, 0, sector);
        std::memset(stored.data() + at, 0, sector);
      }
      uint8_t* const in = buffers.in.AtEnd(plain.size());
      uint8_t* const out = buffers.out.AtStart() + random.Below(kShiftMax);
      std::copy(stored.begin(), stored.end(), in);
      std::memset(out, 0xcc, plain.size());
      buffers.in.ReadOnly();
      DecryptRunWithHoles(*cipher, in, out, plain.size(), 16, sector);
      buffers.in.ReadWrite();
      ASSERT_TRUE(Equal(plain, out));
      ASSERT_TRUE(Equal(stored, in));
    }
  }
}

/// Counts what DecryptRunWithHoles asks for.
class RecordingCipher final : public Cipher {
 public:
  struct Run {
    size_t length_bytes;
    uint64_t first_unit;
    bool operator==(const Run&) const = default;
  };

  void EncryptRun(const uint8_t*, uint8_t*, size_t, uint64_t) const override { FAIL(); }
  void DecryptRun(const uint8_t*, uint8_t*, size_t length_bytes,
                  uint64_t first_unit) const override {
    runs.push_back({length_bytes, first_unit});
  }
  void Wipe() override {}
  std::string_view kernel() const override { return "recording"; }

  mutable std::vector<Run> runs;
};

TEST(HoleRule, DataWithoutHolesIsOneRun) {
  Random random;
  std::vector<uint8_t> stored = random.Bytes(512 * 256);
  const RecordingCipher cipher;
  DecryptRunWithHoles(cipher, stored.data(), stored.data(), stored.size(), 40, 512);
  EXPECT_EQ(cipher.runs, (std::vector<RecordingCipher::Run>{{512 * 256, 40}}));
}

TEST(HoleRule, SectorsThatMerelyBeginWithZerosDoNotEndARun) {
  std::vector<uint8_t> stored(512 * 6);
  for (size_t sector = 0; sector < 6; ++sector) stored[sector * 512 + 511 - sector] = 1;
  const RecordingCipher cipher;
  DecryptRunWithHoles(cipher, stored.data(), stored.data(), stored.size(), 0, 512);
  EXPECT_EQ(cipher.runs, (std::vector<RecordingCipher::Run>{{512 * 6, 0}}));
}

TEST(HoleRule, RunsLieBetweenTheHoles) {
  Random random;
  std::vector<uint8_t> stored = random.Bytes(4096 * 7);
  std::memset(stored.data() + 4096 * 2, 0, 4096 * 2);
  std::memset(stored.data() + 4096 * 6, 0, 4096);
  const RecordingCipher cipher;
  DecryptRunWithHoles(cipher, stored.data(), stored.data(), stored.size(), 80, 4096);
  EXPECT_EQ(cipher.runs, (std::vector<RecordingCipher::Run>{{4096 * 2, 80}, {4096 * 2, 112}}));
}

TEST(HoleRule, OnlyHolesCallForNoCipher) {
  std::vector<uint8_t> stored(4096 * 3);
  const RecordingCipher cipher;
  DecryptRunWithHoles(cipher, stored.data(), stored.data(), stored.size(), 0, 4096);
  EXPECT_TRUE(cipher.runs.empty());
}

/// What the system says that the CPU has, and that it saves the registers of (proc_cpuinfo(5)).
bool Lists(const std::vector<std::string>& flags) {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line) && line.rfind("flags", 0) != 0) continue;
  std::istringstream words(line);
  std::vector<std::string> listed;
  for (std::string word; words >> word;) listed.push_back(word);
  return std::all_of(flags.begin(), flags.end(), [&](const std::string& flag) {
    return std::find(listed.begin(), listed.end(), flag) != listed.end();
  });
}

TEST(Kernels, ThoseWhoseInstructionsTheSystemListsAreOfferedBestFirst) {
  std::vector<std::string_view> expected;
  if (Lists({"avx512f", "avx512bw", "vaes", "vpclmulqdq"})) expected.push_back("vaes512");
  if (Lists({"avx2", "vaes", "vpclmulqdq"})) expected.push_back("vaes256");
  if (Lists({"aes", "pclmulqdq", "sse4_1"})) expected.push_back("aesni");
  expected.push_back("evp");
  EXPECT_EQ(AvailableKernels(), expected);
}

}  // namespace
}  // namespace keyhold::xts

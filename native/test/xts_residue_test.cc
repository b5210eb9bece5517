// SPDX-License-Identifier: Apache-2.0
//
// What a run leaves on its stack and in the vector registers must not depend on the key: two keys,
// the same data, and the two images are compared. So this finds not only round keys (what
// memory_residue_test looks for) but also tweaks and half-encrypted blocks, from which, with the
// ciphertext, a round key follows.
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/xts/cipher.h"
#include "test/random_bytes.h"
#include "test/xts_oracle.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define KEYHOLD_UNSANITIZED \
  __attribute__((noinline, no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined")))

namespace keyhold::xts {
namespace {

using testing::MakeCipher;
using testing::Random;

constexpr size_t kStackBytes = 4 << 20;   // ThreadSanitizer keeps its own state there too
constexpr size_t kRegistersBytes = 4096;  // holds the areas asked for (Intel SDM 13.4)
// x87, SSE, AVX, opmask, upper halves of zmm0-15, zmm16-31.
constexpr unsigned long long kVectorState = 0xe7;

struct Registers {
  alignas(64) uint8_t bytes[kRegistersBytes];
};

/// All vector registers as they are now, whatever their width on this CPU.
__attribute__((target("xsave"))) KEYHOLD_UNSANITIZED void Save(Registers* registers) {
  _xsave64(registers->bytes, kVectorState);
}

struct Residue {
  std::vector<uint64_t> stack{};  // from its far end to the frame that called the run
  Registers registers{};
};

struct Job {
  const Cipher* cipher = nullptr;
  bool encrypt = true;
  std::vector<uint8_t> data{};
  const volatile uint64_t* stack = nullptr;
  Residue* residue = nullptr;
};

/// The run; then, before anything else uses the stack below this frame, a copy of that.
KEYHOLD_UNSANITIZED void* RunJob(void* argument) {
  auto* job = static_cast<Job*>(argument);
  uint8_t* const data = job->data.data();
  if (job->encrypt) {
    job->cipher->EncryptRun(data, data, job->data.size(), 8);
  } else {
    job->cipher->DecryptRun(data, data, job->data.size(), 8);
  }
  Save(&job->residue->registers);
  uint64_t* const copy = job->residue->stack.data();
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const size_t words = (frame - reinterpret_cast<uintptr_t>(job->stack)) / sizeof(uint64_t);
  for (size_t i = 0; i < words; ++i) copy[i] = job->stack[i];
  return nullptr;
}

/// Does the run on a fresh stack of zeros.
Residue RunOnOwnStack(Job job) {
  Residue residue;
  residue.stack.resize(kStackBytes / sizeof(uint64_t));
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  EXPECT_NE(stack, MAP_FAILED);
  job.stack = static_cast<const volatile uint64_t*>(stack);
  job.residue = &residue;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  EXPECT_EQ(pthread_attr_setstack(&attributes, stack, kStackBytes), 0);
  pthread_t thread{};
  EXPECT_EQ(pthread_create(&thread, &attributes, RunJob, &job), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  munmap(stack, kStackBytes);
  return residue;
}

/// Addresses (of the cipher, its schedule, the data) may differ from run to run. Of 16 key bytes
/// one word in 2^17 looks like one.
bool LooksLikeAnAddress(uint64_t word) { return word >> 47 == 0; }

size_t WordsThatDiffer(const Residue& a, const Residue& b) {
  size_t count = 0;
  for (size_t i = 0; i < a.stack.size(); ++i) {
    if (a.stack[i] == b.stack[i]) continue;
    if (!LooksLikeAnAddress(a.stack[i]) || !LooksLikeAnAddress(b.stack[i])) ++count;
  }
  return count;
}

/// The area's first 160 bytes are x87's, 512 to 576 its header (Intel SDM 13.4). Behind a cleared
/// kernel, clearing the stack may leave addresses.
size_t RegisterWordsThatDiffer(const Registers& a, const Registers& b) {
  size_t count = 0;
  for (size_t at = 160; at < kRegistersBytes; at += sizeof(uint64_t)) {
    if (at == 416) at = 576;
    uint64_t words[2];
    std::memcpy(&words[0], a.bytes + at, sizeof words[0]);
    std::memcpy(&words[1], b.bytes + at, sizeof words[1]);
    if (words[0] == words[1]) continue;
    if (!LooksLikeAnAddress(words[0]) || !LooksLikeAnAddress(words[1])) ++count;
  }
  return count;
}

std::vector<std::string_view> OwnKernels() {
  std::vector<std::string_view> names = AvailableKernels();
  std::erase(names, "evp");  // what OpenSSL leaves is memory_residue_test's matter
  return names;
}

class RunResidue : public ::testing::TestWithParam<std::string_view> {
 protected:
  /// Runs with two keys on the same data.
  void Compare(uint32_t sector, size_t sectors, bool encrypt) {
    Random random;
    SCOPED_TRACE(random.Trace());
    const std::vector<uint8_t> data = random.Bytes(sector * sectors);
    const auto one = MakeCipher(GetParam(), random.Bytes(kDekBytes), sector);
    const auto other = MakeCipher(GetParam(), random.Bytes(kDekBytes), sector);
    const Residue a = RunOnOwnStack({one.get(), encrypt, data});
    const Residue b = RunOnOwnStack({other.get(), encrypt, data});
    EXPECT_EQ(WordsThatDiffer(a, b), 0U) << "on the stack";
    EXPECT_EQ(RegisterWordsThatDiffer(a.registers, b.registers), 0U) << "in registers";
  }
};

INSTANTIATE_TEST_SUITE_P(Xts, RunResidue, ::testing::ValuesIn(OwnKernels()),
                         [](const auto& name) { return std::string(name.param); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RunResidue);

TEST_P(RunResidue, NothingOfAnEncryptionOf512ByteSectorsDependsOnTheKey) {
  Compare(512, 1, true);
  Compare(512, 23, true);
}

TEST_P(RunResidue, NothingOfADecryptionOf512ByteSectorsDependsOnTheKey) {
  Compare(512, 1, false);
  Compare(512, 23, false);
}

TEST_P(RunResidue, NothingOfAnEncryptionOf4096ByteSectorsDependsOnTheKey) {
  Compare(4096, 1, true);
  Compare(4096, 11, true);
}

TEST_P(RunResidue, NothingOfADecryptionOf4096ByteSectorsDependsOnTheKey) {
  Compare(4096, 1, false);
  Compare(4096, 11, false);
}

/// Leaves a word of its key on the stack and one in a register, as a careless kernel would.
class LeakyCipher final : public Cipher {
 public:
  LeakyCipher(uint64_t on_stack, uint64_t in_register)
      : on_stack_(on_stack), in_register_(in_register) {}
  KEYHOLD_UNSANITIZED void EncryptRun(const uint8_t*, uint8_t*, size_t, uint64_t) const override {
    volatile uint64_t spilled[8] = {on_stack_};
    static_cast<void>(spilled[0]);
    asm volatile("movq %0, %%xmm9" : : "r"(in_register_) : "xmm9");
  }
  void DecryptRun(const uint8_t*, uint8_t*, size_t, uint64_t) const override {}
  void Wipe() override {}
  std::string_view kernel() const override { return "leaky"; }

 private:
  uint64_t on_stack_;
  uint64_t in_register_;
};

TEST(ResidueSearch, SeesAWordOnTheStackAndOneInARegister) {
  constexpr uint64_t kSpilled = 0xa1b2c3d4e5f60718;
  const LeakyCipher one(kSpilled, 0xa122334455667788);
  const LeakyCipher other(0xb1b2c3d4e5f60719, 0xb122334455667789);
  const Residue a = RunOnOwnStack({&one});
  const Residue b = RunOnOwnStack({&other});
  EXPECT_EQ(std::count(a.stack.begin(), a.stack.end(), kSpilled), 1);
  EXPECT_GE(WordsThatDiffer(a, b), 1U);
  EXPECT_GE(RegisterWordsThatDiffer(a.registers, b.registers), 1U);
}

}  // namespace
}  // namespace keyhold::xts

#endif

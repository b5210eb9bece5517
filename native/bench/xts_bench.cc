// SPDX-License-Identifier: Apache-2.0
//
// The XTS kernels against three yardsticks measured in the same run: the AES limit of the core, a
// plain use of OpenSSL, and memcpy. A machine shared with others makes absolute figures wander, so
// every round measures each case once, for a fraction of a millisecond, beside the yardsticks; what
// counts are the medians over the rounds, and ratios are taken within a round.
//
// Usage: xts_bench [buffer bytes, default 131072] [rounds, default 301]
#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/xts/cipher.h"
#include "core/xts/double_cipher.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace keyhold::xts {
namespace {

constexpr size_t kBytesPerSample = 1 << 20;  // about 0.1 ms: shorter than a scheduler's slice

struct Case {
  std::string name;
  uint32_t sector_bytes;
  std::function<void()> run;  // one buffer
  size_t bytes;
  std::vector<double> bytes_per_ns{};
};

#if defined(__x86_64__)
constexpr int kChains = 8;

/// Defines a function that does 14 rounds on independent blocks and nothing else, in registers:
/// what no AES-256 can exceed. A macro, since a template cannot hand its target on.
#define KEYHOLD_AES_LIMIT(name, instructions, Vector, round_of)                   \
  __attribute__((target(instructions))) void name(size_t bytes) {                 \
    Vector key = {};                                                              \
    Vector blocks[kChains] = {};                                                  \
    /* Unknown to the compiler, or it would work on one of eight equal chains. */ \
    for (int i = 0; i < kChains; ++i) asm volatile("" : "+x"(blocks[i]));         \
    for (size_t done = 0; done < bytes; done += sizeof blocks) {                  \
      _Pragma("GCC unroll 14") for (int round = 0; round < 14; ++round) {         \
        _Pragma("GCC unroll 8") for (int i = 0; i < kChains; ++i) {               \
          blocks[i] = round_of(blocks[i], key);                                   \
        }                                                                         \
      }                                                                           \
    }                                                                             \
    for (int i = 0; i < kChains; ++i) asm volatile("" : : "x"(blocks[i]));        \
  }
KEYHOLD_AES_LIMIT(AesLimit512, "avx512f,vaes", __m512i, _mm512_aesenc_epi128)
KEYHOLD_AES_LIMIT(AesLimit256, "avx2,vaes", __m256i, _mm256_aesenc_epi128)
KEYHOLD_AES_LIMIT(AesLimit128, "aes", __m128i, _mm_aesenc_si128)
#undef KEYHOLD_AES_LIMIT

/// The widest that the machine has; nothing where it has no AES instructions.
std::function<void(size_t)> AesLimit() {
  if (__builtin_cpu_supports("vaes")) {
    if (__builtin_cpu_supports("avx512f")) return AesLimit512;
    if (__builtin_cpu_supports("avx2")) return AesLimit256;
  }
  if (__builtin_cpu_supports("aes")) return AesLimit128;
  return nullptr;
}
#else
std::function<void(size_t)> AesLimit() { return nullptr; }
#endif

/// OpenSSL as a program would use it that cares for speed alone: the key expanded once, in ordinary
/// memory, one context per direction, one tweak per sector.
class PlainOpenssl {
 public:
  PlainOpenssl(const std::vector<uint8_t>& dek, bool encrypt) : context_(EVP_CIPHER_CTX_new()) {
    if (EVP_CipherInit_ex(context_, EVP_aes_256_xts(), nullptr, dek.data(), nullptr,
                          encrypt ? 1 : 0) != 1) {
      std::abort();
    }
  }
  PlainOpenssl(const PlainOpenssl&) = delete;
  PlainOpenssl& operator=(const PlainOpenssl&) = delete;
  ~PlainOpenssl() { EVP_CIPHER_CTX_free(context_); }

  void Run(uint8_t* bytes, size_t length, size_t sector_bytes) {
    uint8_t tweak[16] = {};
    for (uint64_t at = 0; at < length; at += sector_bytes) {
      const uint64_t unit = at / 512;
      std::memcpy(tweak, &unit, sizeof unit);
      int written = 0;
      if (EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, tweak, -1) != 1 ||
          EVP_CipherUpdate(context_, bytes + at, &written, bytes + at,
                           static_cast<int>(sector_bytes)) != 1) {
        std::abort();
      }
    }
  }

 private:
  EVP_CIPHER_CTX* context_;
};

double Quantile(std::vector<double> values, double fraction) {
  const auto index = static_cast<ptrdiff_t>(fraction * static_cast<double>(values.size() - 1));
  const auto at = values.begin() + index;
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double Median(std::vector<double> values) { return Quantile(std::move(values), 0.5); }

/// What a tenth of the rounds exceeds: with nothing else on the core. Where the two processors of a
/// virtual machine are the threads of one core, any other work halves what a kernel may issue, and
/// leaves the AES limit, which needs less, as it is.
double Undisturbed(const Case& sampled) { return Quantile(sampled.bytes_per_ns, 0.9); }

/// How often `bytes` go into a sample, at least once.
size_t Repeats(size_t bytes) { return std::max<size_t>(1, kBytesPerSample / bytes); }

void Sample(Case& sampled) {
  sampled.run();  // back into the caches, after what ran before
  const size_t repeats = Repeats(sampled.bytes);
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < repeats; ++i) sampled.run();
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
  sampled.bytes_per_ns.push_back(static_cast<double>(sampled.bytes * repeats) / took.count());
}

double MedianRatio(const Case& a, const Case* b) {
  if (b == nullptr) return 0;
  std::vector<double> ratios;
  for (size_t i = 0; i < a.bytes_per_ns.size(); ++i) {
    ratios.push_back(a.bytes_per_ns[i] / b->bytes_per_ns[i]);
  }
  return Median(ratios);
}

struct Setup {
  size_t bytes;
  std::vector<uint8_t> dek;
  std::vector<uint8_t> buffer;  // ciphertext-like: no holes
  std::vector<uint8_t> copy;
  std::vector<std::shared_ptr<void>> keep;  // ciphers and contexts
  std::vector<Case> cases;
};

void AddYardsticks(Setup& setup) {
  setup.cases.push_back({"memcpy", 0,
                         [&] { std::memcpy(setup.copy.data(), setup.buffer.data(), setup.bytes); },
                         setup.bytes});
  if (const auto limit = AesLimit()) {
    setup.cases.push_back({"AES limit", 0, [&, limit] { limit(setup.bytes); }, setup.bytes});
  }
  for (const uint32_t sector : {512U, 4096U}) {
    for (const bool encrypt : {true, false}) {
      const auto openssl = std::make_shared<PlainOpenssl>(setup.dek, encrypt);
      setup.keep.push_back(openssl);
      setup.cases.push_back(
          {encrypt ? "OpenSSL encrypt" : "OpenSSL decrypt", sector,
           [&, openssl, sector] { openssl->Run(setup.buffer.data(), setup.bytes, sector); },
           setup.bytes});
    }
  }
}

void AddKernel(Setup& setup, std::string_view kernel, uint32_t sector) {
  const std::shared_ptr<Cipher> cipher = CreateCipher(kernel, setup.dek, sector).Take();
  const std::string name(kernel);
  uint8_t* const data = setup.buffer.data();
  const size_t bytes = setup.bytes;
  setup.cases.push_back(
      {name + " encrypt", sector, [=] { cipher->EncryptRun(data, data, bytes, 0); }, bytes});
  setup.cases.push_back(
      {name + " decrypt", sector, [=] { cipher->DecryptRun(data, data, bytes, 0); }, bytes});
  setup.cases.push_back({name + " decrypt, holes looked for", sector,
                         [=] { DecryptRunWithHoles(*cipher, data, data, bytes, 0, sector); },
                         bytes});
  // As from a mapped page cache into a buffer.
  setup.cases.push_back(
      {name + " decrypt, holes looked for, out of place", sector,
       [=, out = setup.copy.data()] { DecryptRunWithHoles(*cipher, data, out, bytes, 0, sector); },
       bytes});
}

/// Both layers of double encryption: at best half as fast as one.
void AddDouble(Setup& setup, std::string_view kernel, uint32_t sector) {
  std::vector<uint8_t> outer = setup.dek;
  for (uint8_t& byte : outer) byte = static_cast<uint8_t>(byte ^ 0x5a);
  const std::shared_ptr<Cipher> cipher =
      CreateDoubleCipher(kernel, setup.dek, outer, sector).Take();
  const std::string name(kernel);
  uint8_t* const data = setup.buffer.data();
  const size_t bytes = setup.bytes;
  setup.cases.push_back(
      {name + " double encrypt", sector, [=] { cipher->EncryptRun(data, data, bytes, 0); }, bytes});
  setup.cases.push_back(
      {name + " double decrypt", sector, [=] { cipher->DecryptRun(data, data, bytes, 0); }, bytes});
}

const Case* Find(const Setup& setup, const std::string& name, uint32_t sector) {
  for (const Case& found : setup.cases) {
    if (found.name == name && found.sector_bytes == sector) return &found;
  }
  return nullptr;
}

void Print(const Setup& setup, size_t rounds) {
  const Case* limit = Find(setup, "AES limit", 0);
  const Case* copy = Find(setup, "memcpy", 0);
  std::printf("Buffers of %zu bytes, in place unless said, medians of %zu rounds.\n\n", setup.bytes,
              rounds);
  std::printf("| case | sector | GB/s | of AES limit | of OpenSSL | of memcpy | ");
  std::printf("best tenth, GB/s | of AES limit |\n|---|---|---|---|---|---|---|---|\n");
  for (const Case& shown : setup.cases) {
    const bool encrypt = shown.name.find("encrypt") != std::string::npos;
    const Case* openssl =
        Find(setup, encrypt ? "OpenSSL encrypt" : "OpenSSL decrypt", shown.sector_bytes);
    const std::string sector = shown.sector_bytes == 0 ? "–" : std::to_string(shown.sector_bytes);
    std::printf("| %s | %s | %.2f |", shown.name.c_str(), sector.c_str(),
                Median(shown.bytes_per_ns));
    if (openssl == nullptr) {
      std::printf(" – | – | – | %.2f | – |\n", Undisturbed(shown));
      continue;
    }
    std::printf(" %.1f %% | %.2f | %.2f | %.2f |", 100 * MedianRatio(shown, limit),
                MedianRatio(shown, openssl), MedianRatio(shown, copy), Undisturbed(shown));
    std::printf(" %.1f %% |\n",
                limit == nullptr ? 0 : 100 * Undisturbed(shown) / Undisturbed(*limit));
  }
}

int Main(int argc, char** argv) {
  Setup setup{};
  setup.bytes = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 131072;
  const size_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 301;
  if (setup.bytes == 0 || setup.bytes % 4096 != 0 || rounds == 0) {
    std::fprintf(stderr, "usage: xts_bench [buffer bytes, a multiple of 4096] [rounds]\n");
    return 2;
  }
  std::mt19937_64 engine(1619);
  for (size_t i = 0; i < kDekBytes; ++i) setup.dek.push_back(static_cast<uint8_t>(engine()));
  setup.buffer.resize(setup.bytes);
  for (uint8_t& byte : setup.buffer) byte = static_cast<uint8_t>(engine());
  setup.copy.resize(setup.bytes);
  AddYardsticks(setup);
  for (const uint32_t sector : {512U, 4096U}) {
    for (const std::string_view kernel : AvailableKernels()) {
      AddKernel(setup, kernel, sector);
      AddDouble(setup, kernel, sector);
    }
  }
  for (size_t round = 0; round < rounds; ++round) {
    for (Case& sampled : setup.cases) Sample(sampled);
  }
  Print(setup, rounds);
  return 0;
}

}  // namespace
}  // namespace keyhold::xts

int main(int argc, char** argv) { return keyhold::xts::Main(argc, argv); }

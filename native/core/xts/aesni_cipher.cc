// SPDX-License-Identifier: Apache-2.0
#include "core/xts/aesni_cipher.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdlib>
#include <utility>

#include "core/secret/secret_buffer.h"

// One function attribute instead of a compiler flag for the file: nothing outside these functions
// may use instructions that the CPU perhaps lacks.
#define KEYHOLD_AESNI __attribute__((target("aes,sse4.1")))
#define KEYHOLD_AESNI_INLINE __attribute__((target("aes,sse4.1"), always_inline)) inline

namespace keyhold::xts {
namespace {

constexpr int kRounds = 14;  // AES-256 (FIPS 197 section 5)
constexpr int kLanes = 8;    // hides the latency of AESENC; every sector is a multiple of 8 blocks
constexpr size_t kBlockBytes = 16;

/// Lies in secret memory. Decryption needs its own schedule (FIPS 197 section 5.3.5).
struct Schedule {
  __m128i data_encrypt[kRounds + 1];
  __m128i data_decrypt[kRounds + 1];
  __m128i tweak_encrypt[kRounds + 1];
};

/// Leaves no round key, tweak or plaintext in the registers: a core dump holds those of every
/// thread.
KEYHOLD_AESNI_INLINE void ClearVectorRegisters() {
  asm volatile(
      "pxor %%xmm0, %%xmm0\n\tpxor %%xmm1, %%xmm1\n\tpxor %%xmm2, %%xmm2\n\t"
      "pxor %%xmm3, %%xmm3\n\tpxor %%xmm4, %%xmm4\n\tpxor %%xmm5, %%xmm5\n\t"
      "pxor %%xmm6, %%xmm6\n\tpxor %%xmm7, %%xmm7\n\tpxor %%xmm8, %%xmm8\n\t"
      "pxor %%xmm9, %%xmm9\n\tpxor %%xmm10, %%xmm10\n\tpxor %%xmm11, %%xmm11\n\t"
      "pxor %%xmm12, %%xmm12\n\tpxor %%xmm13, %%xmm13\n\tpxor %%xmm14, %%xmm14\n\t"
      "pxor %%xmm15, %%xmm15"
      :
      :
      : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory");
}

/// XORs the word-wise prefix of `key` (FIPS 197 section 5.2: w[i] = w[i-8] ^ f(w[i-1])) with
/// `word`.
KEYHOLD_AESNI_INLINE __m128i Extend(__m128i key, __m128i word) {
  key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
  key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
  return _mm_xor_si128(key, word);
}

template <int kRcon>
KEYHOLD_AESNI_INLINE void ExpandPair(__m128i* keys) {
  keys[2] = Extend(keys[0], _mm_shuffle_epi32(_mm_aeskeygenassist_si128(keys[1], kRcon), 0xff));
  if constexpr (kRcon != 0x40) {  // the last pair ends after 15 round keys
    keys[3] = Extend(keys[1], _mm_shuffle_epi32(_mm_aeskeygenassist_si128(keys[2], 0), 0xaa));
  }
}

KEYHOLD_AESNI void Expand(const uint8_t* key, __m128i* keys) {
  keys[0] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  keys[1] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key + kBlockBytes));
  ExpandPair<0x01>(keys);
  ExpandPair<0x02>(keys + 2);
  ExpandPair<0x04>(keys + 4);
  ExpandPair<0x08>(keys + 6);
  ExpandPair<0x10>(keys + 8);
  ExpandPair<0x20>(keys + 10);
  ExpandPair<0x40>(keys + 12);
  ClearVectorRegisters();
}

KEYHOLD_AESNI void Invert(const __m128i* encrypt, __m128i* decrypt) {
  decrypt[0] = encrypt[kRounds];
  for (int i = 1; i < kRounds; ++i) decrypt[i] = _mm_aesimc_si128(encrypt[kRounds - i]);
  decrypt[kRounds] = encrypt[0];
  ClearVectorRegisters();
}

KEYHOLD_AESNI_INLINE __m128i EncryptBlock(const __m128i* keys, __m128i block) {
  block = _mm_xor_si128(block, keys[0]);
  for (int i = 1; i < kRounds; ++i) block = _mm_aesenc_si128(block, keys[i]);
  return _mm_aesenclast_si128(block, keys[kRounds]);
}

/// Multiplies by alpha in GF(2^128), x^128 + x^7 + x^2 + x + 1 (IEEE 1619-2018 section 5.2).
KEYHOLD_AESNI_INLINE __m128i Double(__m128i tweak) {
  const __m128i feedback = _mm_set_epi32(0, 1, 0, 0x87);
  const __m128i carries = _mm_srai_epi32(_mm_shuffle_epi32(tweak, 0x13), 31);
  return _mm_xor_si128(_mm_add_epi64(tweak, tweak), _mm_and_si128(carries, feedback));
}

/// Eight blocks; returns the tweak of the ninth. Round keys are read where they lie, one at a time,
/// so that none of them is ever spilled to the stack.
template <bool kEncrypt>
KEYHOLD_AESNI_INLINE __m128i EightBlocks(const __m128i* keys, const uint8_t* in, uint8_t* out,
                                         __m128i tweak) {
  const auto* from = reinterpret_cast<const __m128i*>(in);
  auto* to = reinterpret_cast<__m128i*>(out);
  __m128i tweaks[kLanes];
  __m128i blocks[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) {
    tweaks[i] = tweak;
    blocks[i] = _mm_xor_si128(_mm_xor_si128(_mm_loadu_si128(from + i), tweak), keys[0]);
    tweak = Double(tweak);
  }
#pragma GCC unroll 16
  for (int round = 1; round < kRounds; ++round) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; ++i) {
      blocks[i] = kEncrypt ? _mm_aesenc_si128(blocks[i], keys[round])
                           : _mm_aesdec_si128(blocks[i], keys[round]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kLanes; ++i) {
    blocks[i] = kEncrypt ? _mm_aesenclast_si128(blocks[i], keys[kRounds])
                         : _mm_aesdeclast_si128(blocks[i], keys[kRounds]);
    _mm_storeu_si128(to + i, _mm_xor_si128(blocks[i], tweaks[i]));
  }
  return tweak;
}

template <bool kEncrypt>
KEYHOLD_AESNI void Sectors(const Schedule& schedule, const uint8_t* in, uint8_t* out,
                           size_t length_bytes, uint64_t first_unit, size_t sector_size_bytes) {
  const __m128i* keys = kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  uint64_t unit = first_unit;
  for (size_t sector = 0; sector < length_bytes; sector += sector_size_bytes) {
    __m128i tweak =
        EncryptBlock(schedule.tweak_encrypt, _mm_set_epi64x(0, static_cast<long long>(unit)));
    for (size_t at = 0; at < sector_size_bytes; at += kLanes * kBlockBytes) {
      tweak = EightBlocks<kEncrypt>(keys, in + sector + at, out + sector + at, tweak);
    }
    unit += sector_size_bytes / 512;
  }
  ClearVectorRegisters();
}

class AesniCipher final : public Cipher {
 public:
  AesniCipher(SecretBuffer memory, uint32_t sector_size_bytes)
      : memory_(std::move(memory)), sector_size_bytes_(sector_size_bytes) {}

  void EncryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    if (length_bytes % sector_size_bytes_ != 0) std::abort();
    Sectors<true>(schedule(), in, out, length_bytes, first_unit, sector_size_bytes_);
  }

  void DecryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    if (length_bytes % sector_size_bytes_ != 0) std::abort();
    Sectors<false>(schedule(), in, out, length_bytes, first_unit, sector_size_bytes_);
  }

  void Wipe() override { memory_.Wipe(); }

  std::string_view kernel() const override { return "aesni"; }

 private:
  const Schedule& schedule() const {
    return *reinterpret_cast<const Schedule*>(memory_.bytes().data());  // 64-byte aligned
  }

  SecretBuffer memory_;
  uint32_t sector_size_bytes_;
};

}  // namespace

bool HasAesni() { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1"); }

Result<std::unique_ptr<Cipher>> CreateAesniCipher(std::span<const uint8_t> dek,
                                                  uint32_t sector_size_bytes) {
  auto memory = SecretBuffer::Allocate(sizeof(Schedule));
  if (!memory) return memory.error();
  auto* schedule = reinterpret_cast<Schedule*>(memory.value().bytes().data());
  Expand(dek.data(), schedule->data_encrypt);
  Invert(schedule->data_encrypt, schedule->data_decrypt);
  Expand(dek.data() + kDekBytes / 2, schedule->tweak_encrypt);
  return std::unique_ptr<Cipher>(new AesniCipher(memory.Take(), sector_size_bytes));
}

}  // namespace keyhold::xts

#else

namespace keyhold::xts {

bool HasAesni() { return false; }

Result<std::unique_ptr<Cipher>> CreateAesniCipher(std::span<const uint8_t>, uint32_t) {
  return Error{ErrorCode::kInvalidArgument, 0, "create cipher: this machine has no AES-NI"};
}

}  // namespace keyhold::xts

#endif

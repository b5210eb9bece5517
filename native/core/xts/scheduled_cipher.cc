// SPDX-License-Identifier: Apache-2.0
#include "core/xts/scheduled_cipher.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/secret/secret_buffer.h"
#include "core/xts/sse_registers.h"

#define KEYHOLD_AESNI __attribute__((target("aes,sse4.1")))
#define KEYHOLD_AESNI_INLINE __attribute__((target("aes,sse4.1"), always_inline)) inline

namespace keyhold::xts {
namespace {

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
  keys[1] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key + sizeof(__m128i)));
  ExpandPair<0x01>(keys);
  ExpandPair<0x02>(keys + 2);
  ExpandPair<0x04>(keys + 4);
  ExpandPair<0x08>(keys + 6);
  ExpandPair<0x10>(keys + 8);
  ExpandPair<0x20>(keys + 10);
  ExpandPair<0x40>(keys + 12);
  ClearSseRegisters();
}

KEYHOLD_AESNI void Invert(const __m128i* encrypt, __m128i* decrypt) {
  decrypt[0] = encrypt[kRounds];
  for (int i = 1; i < kRounds; ++i) decrypt[i] = _mm_aesimc_si128(encrypt[kRounds - i]);
  decrypt[kRounds] = encrypt[0];
  ClearSseRegisters();
}

/// Zeroes the stack where a kernel's frame was: its tweaks, and whatever the compiler spilled. That
/// is nothing in optimised builds and a good deal in instrumented ones, whose frames take up to
/// 2.8 KiB. A half-encrypted block together with its ciphertext gives a round key away, so this
/// does not rest on the compiler's mood. xts_residue_test finds what is missed here.
__attribute__((noinline, no_sanitize("address"))) void ClearKernelFrame() {
  constexpr size_t kPieceBytes = 1536;  // glibc is at its fastest up to 2048
  uint8_t frame[2 * kPieceBytes];
  explicit_bzero(frame, kPieceBytes);
  explicit_bzero(frame + kPieceBytes, kPieceBytes);
}

class ScheduledCipher final : public Cipher {
 public:
  ScheduledCipher(const ScheduledKernel& kernel, SecretBuffer memory, uint32_t sector_size_bytes)
      : kernel_(kernel), memory_(std::move(memory)), sector_size_bytes_(sector_size_bytes) {}

  void EncryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    if (length_bytes % sector_size_bytes_ != 0) std::abort();
    kernel_.encrypt(schedule(), in, out, length_bytes, first_unit, sector_size_bytes_);
    ClearKernelFrame();
  }

  void DecryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    if (length_bytes % sector_size_bytes_ != 0) std::abort();
    kernel_.decrypt(schedule(), in, out, length_bytes, first_unit, sector_size_bytes_);
    ClearKernelFrame();
  }

  void Wipe() override { memory_.Wipe(); }

  std::string_view kernel() const override { return kernel_.name; }

 private:
  const Schedule& schedule() const {
    return *reinterpret_cast<const Schedule*>(memory_.bytes().data());  // 64-byte aligned
  }

  ScheduledKernel kernel_;
  SecretBuffer memory_;
  uint32_t sector_size_bytes_;
};

}  // namespace

Result<std::unique_ptr<Cipher>> CreateScheduledCipher(const ScheduledKernel& kernel,
                                                      std::span<const uint8_t> dek,
                                                      uint32_t sector_size_bytes) {
  auto memory = SecretBuffer::Allocate(sizeof(Schedule));
  if (!memory) return memory.error();
  auto* schedule = reinterpret_cast<Schedule*>(memory.value().bytes().data());
  Expand(dek.data(), schedule->data_encrypt);
  Invert(schedule->data_encrypt, schedule->data_decrypt);
  Expand(dek.data() + kDekBytes / 2, schedule->tweak_encrypt);
  return std::unique_ptr<Cipher>(new ScheduledCipher(kernel, memory.Take(), sector_size_bytes));
}

}  // namespace keyhold::xts

#endif

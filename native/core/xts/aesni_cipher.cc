// SPDX-License-Identifier: Apache-2.0
#include "core/xts/aesni_cipher.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define KEYHOLD_XTS_TARGET __attribute__((target("aes,pclmul,sse4.1")))
#include "core/xts/run_interleaved.h"
#include "core/xts/sse_registers.h"

namespace keyhold::xts {
namespace {

/// One block in a 128-bit register.
struct Lanes128 {
  using Vector = __m128i;
  static constexpr int kBlocks = 1;

  KEYHOLD_XTS_INLINE static Vector Load(const uint8_t* bytes) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  }
  KEYHOLD_XTS_INLINE static void Store(uint8_t* bytes, Vector value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), value);
  }
  KEYHOLD_XTS_INLINE static Vector Broadcast(const __m128i* block) { return _mm_load_si128(block); }
  KEYHOLD_XTS_INLINE static Vector Zero() { return _mm_setzero_si128(); }
  KEYHOLD_XTS_INLINE static Vector Xor(Vector a, Vector b) { return _mm_xor_si128(a, b); }
  KEYHOLD_XTS_INLINE static Vector Xor3(Vector a, Vector b, Vector c) {
    return _mm_xor_si128(a, _mm_xor_si128(b, c));
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftLeftBytes(Vector value) {
    return _mm_slli_si128(value, kBytes);
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftRightBytes(Vector value) {
    return _mm_srli_si128(value, kBytes);
  }
  template <int kHalves>
  KEYHOLD_XTS_INLINE static Vector Multiply(Vector a, Vector b) {
    return _mm_clmulepi64_si128(a, b, kHalves);
  }
  KEYHOLD_XTS_INLINE static Vector Polynomial() { return _mm_set1_epi64x(0x87); }
  KEYHOLD_XTS_INLINE static Vector Powers(int vector) {
    return _mm_set_epi64x(0, int64_t{1} << vector);
  }
  KEYHOLD_XTS_INLINE static Vector Units(uint64_t first, uint64_t) {
    return _mm_set_epi64x(0, static_cast<int64_t>(first));
  }
  KEYHOLD_XTS_INLINE static Vector Encrypt(Vector blocks, Vector key) {
    return _mm_aesenc_si128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector EncryptLast(Vector blocks, Vector key) {
    return _mm_aesenclast_si128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector Decrypt(Vector blocks, Vector key) {
    return _mm_aesdec_si128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector DecryptLast(Vector blocks, Vector key) {
    return _mm_aesdeclast_si128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static void ClearRegisters() { ClearSseRegisters(); }
};

constexpr ScheduledKernel kKernel = {"aesni", RunInterleaved<Lanes128, true>,
                                     RunInterleaved<Lanes128, false>};

}  // namespace

bool HasAesni() {
  return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
         __builtin_cpu_supports("sse4.1");
}

Result<std::unique_ptr<Cipher>> CreateAesniCipher(std::span<const uint8_t> dek,
                                                  uint32_t sector_size_bytes) {
  return CreateScheduledCipher(kKernel, dek, sector_size_bytes);
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

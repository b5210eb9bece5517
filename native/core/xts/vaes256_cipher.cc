// SPDX-License-Identifier: Apache-2.0
#include "core/xts/vaes_cipher.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define KEYHOLD_XTS_TARGET __attribute__((target("avx2,vaes,vpclmulqdq")))
#include "core/xts/run_interleaved.h"

namespace keyhold::xts {
namespace {

/// Two blocks in a 256-bit register.
struct Lanes256 {
  using Vector = __m256i;
  static constexpr int kBlocks = 2;

  KEYHOLD_XTS_INLINE static Vector Load(const uint8_t* bytes) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
  }
  KEYHOLD_XTS_INLINE static void Store(uint8_t* bytes, Vector value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), value);
  }
  KEYHOLD_XTS_INLINE static Vector Broadcast(const __m128i* block) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(block));
  }
  KEYHOLD_XTS_INLINE static Vector Zero() { return _mm256_setzero_si256(); }
  KEYHOLD_XTS_INLINE static Vector Xor(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
  KEYHOLD_XTS_INLINE static Vector Xor3(Vector a, Vector b, Vector c) {
    return _mm256_xor_si256(a, _mm256_xor_si256(b, c));
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftLeftBytes(Vector value) {
    return _mm256_bslli_epi128(value, kBytes);
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftRightBytes(Vector value) {
    return _mm256_bsrli_epi128(value, kBytes);
  }
  template <int kHalves>
  KEYHOLD_XTS_INLINE static Vector Multiply(Vector a, Vector b) {
    return _mm256_clmulepi64_epi128(a, b, kHalves);
  }
  KEYHOLD_XTS_INLINE static Vector Polynomial() { return _mm256_set1_epi64x(0x87); }
  KEYHOLD_XTS_INLINE static Vector Powers(int vector) {
    const auto first = int64_t{1} << (vector * kBlocks);
    return _mm256_set_epi64x(0, first << 1, 0, first);
  }
  KEYHOLD_XTS_INLINE static Vector Units(uint64_t first, uint64_t step) {
    return _mm256_set_epi64x(0, static_cast<int64_t>(first + step), 0, static_cast<int64_t>(first));
  }
  KEYHOLD_XTS_INLINE static Vector Encrypt(Vector blocks, Vector key) {
    return _mm256_aesenc_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector EncryptLast(Vector blocks, Vector key) {
    return _mm256_aesenclast_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector Decrypt(Vector blocks, Vector key) {
    return _mm256_aesdec_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector DecryptLast(Vector blocks, Vector key) {
    return _mm256_aesdeclast_epi128(blocks, key);
  }

  KEYHOLD_XTS_INLINE static void ClearRegisters() {
    asm volatile("vzeroall"
                 :
                 :
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                   "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "memory");
  }
};

constexpr ScheduledKernel kKernel = {"vaes256", RunInterleaved<Lanes256, true>,
                                     RunInterleaved<Lanes256, false>};

}  // namespace

// libgcc reads CPUID and, for the vector widths, XGETBV: "avx2" also means that the system saves
// the 256-bit registers.
bool HasVaes256() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("aes") && CpuHasVectorAes();
}

Result<std::unique_ptr<Cipher>> CreateVaes256Cipher(std::span<const uint8_t> dek,
                                                    uint32_t sector_size_bytes) {
  return CreateScheduledCipher(kKernel, dek, sector_size_bytes);
}

}  // namespace keyhold::xts

#else

namespace keyhold::xts {

bool HasVaes256() { return false; }

Result<std::unique_ptr<Cipher>> CreateVaes256Cipher(std::span<const uint8_t>, uint32_t) {
  return Error{ErrorCode::kInvalidArgument, 0, "create cipher: this machine has no VAES"};
}

}  // namespace keyhold::xts

#endif

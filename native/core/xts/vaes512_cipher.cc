// SPDX-License-Identifier: Apache-2.0
#include "core/xts/vaes_cipher.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define KEYHOLD_XTS_TARGET __attribute__((target("avx512f,avx512bw,vaes,vpclmulqdq")))
#include "core/xts/run_sectors.h"

namespace keyhold::xts {
namespace {

/// Four blocks in a 512-bit register.
struct Lanes512 {
  using Vector = __m512i;
  static constexpr int kBlocks = 4;

  KEYHOLD_XTS_INLINE static Vector Load(const uint8_t* bytes) { return _mm512_loadu_si512(bytes); }
  KEYHOLD_XTS_INLINE static void Store(uint8_t* bytes, Vector value) {
    _mm512_storeu_si512(bytes, value);
  }
  KEYHOLD_XTS_INLINE static Vector Broadcast(const __m128i* block) {
    // The full mask costs nothing; without it GCC 12 warns of its own header's undefined operand.
    return _mm512_maskz_broadcast_i32x4(0xffff, _mm_load_si128(block));
  }
  KEYHOLD_XTS_INLINE static Vector Zero() { return _mm512_setzero_si512(); }
  KEYHOLD_XTS_INLINE static Vector Xor(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
  KEYHOLD_XTS_INLINE static Vector Xor3(Vector a, Vector b, Vector c) {
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftLeftBytes(Vector value) {
    return _mm512_bslli_epi128(value, kBytes);
  }
  template <int kBytes>
  KEYHOLD_XTS_INLINE static Vector ShiftRightBytes(Vector value) {
    return _mm512_bsrli_epi128(value, kBytes);
  }
  template <int kHalves>
  KEYHOLD_XTS_INLINE static Vector Multiply(Vector a, Vector b) {
    return _mm512_clmulepi64_epi128(a, b, kHalves);
  }
  KEYHOLD_XTS_INLINE static Vector Polynomial() { return _mm512_set1_epi64(0x87); }
  KEYHOLD_XTS_INLINE static Vector Powers(int vector) {
    const auto first = int64_t{1} << (vector * kBlocks);
    return _mm512_set_epi64(0, first << 3, 0, first << 2, 0, first << 1, 0, first);
  }
  KEYHOLD_XTS_INLINE static Vector Units(uint64_t first, uint64_t step) {
    return _mm512_set_epi64(0, static_cast<int64_t>(first + 3 * step), 0,
                            static_cast<int64_t>(first + 2 * step), 0,
                            static_cast<int64_t>(first + step), 0, static_cast<int64_t>(first));
  }
  KEYHOLD_XTS_INLINE static Vector Encrypt(Vector blocks, Vector key) {
    return _mm512_aesenc_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector EncryptLast(Vector blocks, Vector key) {
    return _mm512_aesenclast_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector Decrypt(Vector blocks, Vector key) {
    return _mm512_aesdec_epi128(blocks, key);
  }
  KEYHOLD_XTS_INLINE static Vector DecryptLast(Vector blocks, Vector key) {
    return _mm512_aesdeclast_epi128(blocks, key);
  }

  KEYHOLD_XTS_INLINE static void ClearRegisters() {
    asm volatile(
        "vzeroall\n\t"
        "vpxord %%zmm16, %%zmm16, %%zmm16\n\tvpxord %%zmm17, %%zmm17, %%zmm17\n\t"
        "vpxord %%zmm18, %%zmm18, %%zmm18\n\tvpxord %%zmm19, %%zmm19, %%zmm19\n\t"
        "vpxord %%zmm20, %%zmm20, %%zmm20\n\tvpxord %%zmm21, %%zmm21, %%zmm21\n\t"
        "vpxord %%zmm22, %%zmm22, %%zmm22\n\tvpxord %%zmm23, %%zmm23, %%zmm23\n\t"
        "vpxord %%zmm24, %%zmm24, %%zmm24\n\tvpxord %%zmm25, %%zmm25, %%zmm25\n\t"
        "vpxord %%zmm26, %%zmm26, %%zmm26\n\tvpxord %%zmm27, %%zmm27, %%zmm27\n\t"
        "vpxord %%zmm28, %%zmm28, %%zmm28\n\tvpxord %%zmm29, %%zmm29, %%zmm29\n\t"
        "vpxord %%zmm30, %%zmm30, %%zmm30\n\tvpxord %%zmm31, %%zmm31, %%zmm31"
        :
        :
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",
          "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30",
          "xmm31", "memory");
  }
};

constexpr ScheduledKernel kKernel = {"vaes512", RunSectors<Lanes512, true>,
                                     RunSectors<Lanes512, false>};

}  // namespace

// libgcc reads CPUID and, for the vector widths, XGETBV: "avx512f" also means that the system saves
// the 512-bit registers.
bool HasVaes512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("aes") && CpuHasVectorAes();
}

Result<std::unique_ptr<Cipher>> CreateVaes512Cipher(std::span<const uint8_t> dek,
                                                    uint32_t sector_size_bytes) {
  return CreateScheduledCipher(kKernel, dek, sector_size_bytes);
}

}  // namespace keyhold::xts

#else

namespace keyhold::xts {

bool HasVaes512() { return false; }

Result<std::unique_ptr<Cipher>> CreateVaes512Cipher(std::span<const uint8_t>, uint32_t) {
  return Error{ErrorCode::kInvalidArgument, 0, "create cipher: this machine has no VAES"};
}

}  // namespace keyhold::xts

#endif

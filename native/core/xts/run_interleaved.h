// SPDX-License-Identifier: Apache-2.0
//
// The run of sectors of the kernels on 128 and 256 bits. Included as run_sectors.h is, whose vector
// arithmetic begins a run here too; what differs is where the other tweaks come from.
//
// Zen 3 has two ports for AESENC; PCLMULQDQ takes one of them, byte shifts often the other. And a
// burst of other vector instructions between two groups leaves the scheduler without AES to issue.
// Measured there, the run of run_sectors.h reaches 61 to 66 % of the AES limit. The integer units
// idle meanwhile. So here they make the tweaks, by the doubling of IEEE 1619-2018 section 5.2 in
// two 64-bit registers: one or two doublings after every round, which the vector units do not
// notice. The kernel on 512 bits reaches its limit without that, on other CPUs, and stays as it is.
//
// A tweak is stored as two words and loaded as part of a vector, which the store buffer cannot
// forward. So tweaks are made two groups ahead of their use: by then they are in the cache.
//
// Key bytes: as in run_sectors.h. Integer registers hold a tweak too; they are cleared with the
// vector registers.
#pragma once

#include "core/xts/run_sectors.h"

namespace keyhold::xts {
namespace {

/// Tweak of the next block, little-endian as in memory.
struct ScalarTweak {
  uint64_t low;
  uint64_t high;
};

/// What an interleaved run keeps between groups. Lies on the stack, which the caller clears after
/// the run.
template <class Lanes>
struct InterleavedScratch {
  Scratch<Lanes> begin;                        // of the first two groups
  typename Lanes::Vector tweaks[3][kVectors];  // of a group, the next and the one after it, in turn
  typename Lanes::Vector starts[2];            // first tweaks of kBlocks sectors each, in turn
  typename Lanes::Vector units;                // numbers of the sectors whose tweaks are next
};

/// Stores the tweak at `slot` and doubles it. The carry becomes a mask: no branch depends on it.
/// Volatile keeps it where it stands among the rounds.
KEYHOLD_XTS_INLINE void StoreAndDouble(ScalarTweak& tweak, uint64_t* slot) {
  uint64_t carry;
  asm volatile(
      "mov %[low], %[slot_low]\n\t"
      "mov %[high], %[slot_high]\n\t"
      "mov %[high], %[carry]\n\t"
      "sar $63, %[carry]\n\t"
      "and $0x87, %k[carry]\n\t"
      "add %[low], %[low]\n\t"
      "adc %[high], %[high]\n\t"
      "xor %[carry], %[low]"
      : [low] "+r"(tweak.low), [high] "+r"(tweak.high), [carry] "=&r"(carry),
        [slot_low] "=m"(slot[0]), [slot_high] "=m"(slot[1])
      :
      : "cc");
}

/// Where a group finds its tweaks and puts those of other groups and sectors.
template <class Lanes>
struct TweakPlaces {
  typename Lanes::Vector* used;
  typename Lanes::Vector* made;
  typename Lanes::Vector* starts;
};

/// Eight vectors of data, and the tweaks of eight others; with `kStarts` also the first tweaks of
/// the sectors `units`.
template <class Lanes, bool kEncrypt, bool kStarts>
KEYHOLD_XTS_INLINE void InterleavedGroup(const __m128i* keys, const __m128i* tweak_keys,
                                         const TweakPlaces<Lanes>& places,
                                         const typename Lanes::Vector& units, ScalarTweak& tweak,
                                         const uint8_t* in, uint8_t* out) {
  using Vector = typename Lanes::Vector;
  constexpr int kGroupBlocks = kVectors * Lanes::kBlocks;
  asm volatile("" : "+r"(keys), "+r"(tweak_keys) : : "memory");
  auto* slot = reinterpret_cast<uint64_t*>(places.made);
  Vector blocks[kVectors];
  Vector first{};
  Vector key = Lanes::Broadcast(keys);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const auto data = Lanes::Load(in + static_cast<size_t>(i) * sizeof(Vector));
    blocks[i] = Lanes::Xor3(data, places.used[i], key);
  }
  if (kStarts) first = Lanes::Xor(units, Lanes::Broadcast(tweak_keys));
#pragma GCC unroll 16
  for (int round = 1; round < kRounds; ++round) {
    key = Lanes::Broadcast(keys + round);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      blocks[i] = kEncrypt ? Lanes::Encrypt(blocks[i], key) : Lanes::Decrypt(blocks[i], key);
    }
    if (kStarts) first = Lanes::Encrypt(first, Lanes::Broadcast(tweak_keys + round));
    const int done = (round - 1) * kGroupBlocks / (kRounds - 1);
    const int due = round * kGroupBlocks / (kRounds - 1);
#pragma GCC unroll 2
    for (int block = done; block < due; ++block) StoreAndDouble(tweak, slot + 2 * block);
  }
  key = Lanes::Broadcast(keys + kRounds);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const auto last = Lanes::Xor(key, places.used[i]);
    Lanes::Store(
        out + static_cast<size_t>(i) * sizeof(Vector),
        kEncrypt ? Lanes::EncryptLast(blocks[i], last) : Lanes::DecryptLast(blocks[i], last));
  }
  if (kStarts) {
    *places.starts = Lanes::EncryptLast(first, Lanes::Broadcast(tweak_keys + kRounds));
  }
}

/// Those that a function need not restore; the others get their caller's values back.
KEYHOLD_XTS_INLINE void ClearIntegerRegisters() {
  asm volatile(
      "xor %%eax, %%eax\n\txor %%ecx, %%ecx\n\txor %%edx, %%edx\n\txor %%esi, %%esi\n\t"
      "xor %%edi, %%edi\n\txor %%r8d, %%r8d\n\txor %%r9d, %%r9d\n\txor %%r10d, %%r10d\n\t"
      "xor %%r11d, %%r11d"
      :
      :
      : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc");
}

KEYHOLD_XTS_INLINE ScalarTweak LoadTweak(const void* vectors, size_t block) {
  const uint64_t* const words = static_cast<const uint64_t*>(vectors) + 2 * block;
  return {words[0], words[1]};
}

/// The tweaks of a run's first two groups, by vectors: there is nothing yet to make them in the
/// shadow of. Returns the tweak after them.
template <class Lanes>
KEYHOLD_XTS_INLINE ScalarTweak BeginInterleaved(const __m128i* tweak_keys,
                                                InterleavedScratch<Lanes>* scratch) {
  BeginRun(tweak_keys, &scratch->begin);
  scratch->starts[0] = scratch->begin.starts;
  BeginSector(&scratch->begin, 0);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) scratch->tweaks[0][i] = scratch->begin.tweaks[i];
  Advance(&scratch->begin);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) scratch->tweaks[1][i] = scratch->begin.tweaks[i];
  constexpr size_t kLast = kVectors * Lanes::kBlocks - 1;
  ScalarTweak tweak = LoadTweak(scratch->tweaks[1], kLast);
  StoreAndDouble(tweak, reinterpret_cast<uint64_t*>(scratch->tweaks[1]) + 2 * kLast);
  return tweak;
}

/// One direction of a kernel (ScheduledKernel::Run).
template <class Lanes, bool kEncrypt>
KEYHOLD_XTS_TARGET void RunInterleaved(const Schedule& schedule, const uint8_t* in, uint8_t* out,
                                       size_t length_bytes, uint64_t first_unit,
                                       size_t sector_size_bytes) {
  constexpr size_t kGroupBytes = kVectors * sizeof(typename Lanes::Vector);
  if (length_bytes == 0) return;
  const __m128i* keys = kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  const __m128i* tweak_keys = schedule.tweak_encrypt;
  const uint64_t units_per_sector = sector_size_bytes / 512;
  const size_t groups_per_sector = sector_size_bytes / kGroupBytes;
  InterleavedScratch<Lanes> scratch;
  scratch.begin.units = Lanes::Units(first_unit, units_per_sector);
  ScalarTweak tweak = BeginInterleaved(tweak_keys, &scratch);
  TweakPlaces<Lanes> places = {scratch.tweaks[0], scratch.tweaks[2], &scratch.starts[1]};
  typename Lanes::Vector* next = scratch.tweaks[1];
  size_t groups_to_next_sector = groups_per_sector - 2;  // of the tweaks that are made
  size_t next_sector = 1;
  size_t groups_to_starts = 0;
  for (const uint8_t* const end = in + length_bytes; in != end;
       in += kGroupBytes, out += kGroupBytes) {
    if (groups_to_next_sector == 0) {
      tweak = LoadTweak(scratch.starts, next_sector++ % (2 * Lanes::kBlocks));
      groups_to_next_sector = groups_per_sector;
    }
    if (groups_to_starts == 0) {
      first_unit += Lanes::kBlocks * units_per_sector;
      scratch.units = Lanes::Units(first_unit, units_per_sector);
      InterleavedGroup<Lanes, kEncrypt, true>(keys, tweak_keys, places, scratch.units, tweak, in,
                                              out);
      places.starts = &scratch.starts[places.starts == scratch.starts ? 1 : 0];
      groups_to_starts = Lanes::kBlocks * groups_per_sector;
    } else {
      InterleavedGroup<Lanes, kEncrypt, false>(keys, tweak_keys, places, scratch.units, tweak, in,
                                               out);
    }
    --groups_to_next_sector;
    --groups_to_starts;
    typename Lanes::Vector* const used = places.used;
    places.used = next;
    next = places.made;
    places.made = used;
  }
  Lanes::ClearRegisters();
  ClearIntegerRegisters();
}

}  // namespace
}  // namespace keyhold::xts

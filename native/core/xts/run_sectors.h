// SPDX-License-Identifier: Apache-2.0
//
// The run of sectors of the kernel on 512 bits; those on fewer begin their runs with its parts
// (run_interleaved.h). Whoever includes this file has defined KEYHOLD_XTS_TARGET (the target
// attribute of its functions) and passes `Lanes`, its vector of `kBlocks` blocks with the
// instructions on it. Everything here is local to the including file, since the same source is
// compiled for three instruction sets.
//
// How it keeps the AES units busy:
// - Eight vectors are in flight, which hides the latency of AESENC. Round keys are broadcast from
//   secret memory round by round: one load serves eight vectors, and no register holds a key for
//   longer.
// - Whitening costs one XOR on each side: tweak and first round key go onto the data as it is
//   loaded, tweak and last round key are joined into the operand of AESENCLAST.
// - The eight tweak vectors of a group advance by whole bytes (a power of x that is a multiple of
//   8): two byte shifts, one PCLMULQDQ by 0x87 and one XOR. None of these competes with AES for its
//   port on Intel; bit shifts of 512 bits would.
// - The first tweak of a sector is a serial AES. Those of the next `kBlocks` sectors are encrypted
//   as a ninth vector in the shadow of the present sectors' first group, so that only the first of
//   a run is waited for.
//
// Key bytes: what outlives a group (tweaks) lies in Scratch. Round keys, and data in the middle of
// the rounds, are never spilled: an empty asm in every group hides the pointers and claims memory,
// so that the compiler can neither hoist the loads of round keys out of the loop nor carry tweaks
// from group to group in registers that it lacks. Check in an optimised build with `objdump -d`:
// the only vector stores relative to rsp or rbp are those to Scratch. The caller clears this
// function's frame all the same; registers are cleared here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/xts/scheduled_cipher.h"

#define KEYHOLD_XTS_INLINE KEYHOLD_XTS_TARGET __attribute__((always_inline)) inline

namespace keyhold::xts {
namespace {

constexpr int kVectors = 8;

/// What a run keeps between groups. Lies on the stack, which the caller clears after the run.
template <class Lanes>
struct Scratch {
  typename Lanes::Vector tweaks[kVectors];  // of the group's blocks, in order
  typename Lanes::Vector starts;            // first tweaks of the next kBlocks sectors …
  typename Lanes::Vector following;         // … and of the kBlocks sectors after them
  typename Lanes::Vector units;             // numbers of the sectors of `following`
};

/// Multiplies by x^(8 * kBytes) modulo x^128 + x^7 + x^2 + x + 1 (IEEE 1619-2018 section 5.2): the
/// bytes shifted out at the top come back times 0x87.
template <class Lanes, int kBytes>
KEYHOLD_XTS_INLINE typename Lanes::Vector TimesBytes(typename Lanes::Vector tweaks) {
  const auto carry = Lanes::template ShiftRightBytes<16 - kBytes>(tweaks);
  return Lanes::Xor(Lanes::template ShiftLeftBytes<kBytes>(tweaks),
                    Lanes::template Multiply<0x00>(carry, Lanes::Polynomial()));
}

/// Multiplies each block by a power of x below x^8, `powers`.
template <class Lanes>
KEYHOLD_XTS_INLINE typename Lanes::Vector TimesPowers(typename Lanes::Vector tweak,
                                                      typename Lanes::Vector powers) {
  const auto low = Lanes::template Multiply<0x00>(tweak, powers);
  const auto high = Lanes::template Multiply<0x01>(tweak, powers);
  const auto carry = Lanes::template Multiply<0x01>(high, Lanes::Polynomial());
  return Lanes::Xor3(low, Lanes::template ShiftLeftBytes<8>(high), carry);
}

/// The tweaks of a sector's first group, from the sector's first tweak.
template <class Lanes>
KEYHOLD_XTS_INLINE void BeginSector(Scratch<Lanes>* scratch, size_t sector) {
  constexpr int kPerByte = 8 / Lanes::kBlocks;  // so many vectors span x^8
  const auto tweak = Lanes::Broadcast(reinterpret_cast<const __m128i*>(&scratch->starts) + sector);
#pragma GCC unroll 4
  for (int i = 0; i < kPerByte; ++i) {
    auto tweaks = TimesPowers<Lanes>(tweak, Lanes::Powers(i));
    scratch->tweaks[i] = tweaks;
#pragma GCC unroll 4
    for (int next = i + kPerByte; next < kVectors; next += kPerByte) {
      tweaks = TimesBytes<Lanes, 1>(tweaks);
      scratch->tweaks[next] = tweaks;
    }
  }
}

/// The tweaks of the sector's next group.
template <class Lanes>
KEYHOLD_XTS_INLINE void Advance(Scratch<Lanes>* scratch) {
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    scratch->tweaks[i] = TimesBytes<Lanes, Lanes::kBlocks>(scratch->tweaks[i]);
  }
}

/// Eight vectors of data; with `kFollowing` also the first tweaks of `scratch->units`.
template <class Lanes, bool kEncrypt, bool kFollowing>
KEYHOLD_XTS_INLINE void Group(const __m128i* keys, const __m128i* tweak_keys,
                              Scratch<Lanes>* scratch, const uint8_t* in, uint8_t* out) {
  using Vector = typename Lanes::Vector;
  asm volatile("" : "+r"(keys), "+r"(tweak_keys), "+r"(scratch) : : "memory");
  Vector blocks[kVectors];
  Vector following{};
  Vector key = Lanes::Broadcast(keys);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const auto data = Lanes::Load(in + static_cast<size_t>(i) * sizeof(Vector));
    blocks[i] = Lanes::Xor3(data, scratch->tweaks[i], key);
  }
  if (kFollowing) following = Lanes::Xor(scratch->units, Lanes::Broadcast(tweak_keys));
#pragma GCC unroll 16
  for (int round = 1; round < kRounds; ++round) {
    key = Lanes::Broadcast(keys + round);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      blocks[i] = kEncrypt ? Lanes::Encrypt(blocks[i], key) : Lanes::Decrypt(blocks[i], key);
    }
    if (kFollowing) following = Lanes::Encrypt(following, Lanes::Broadcast(tweak_keys + round));
  }
  key = Lanes::Broadcast(keys + kRounds);
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    const auto last = Lanes::Xor(key, scratch->tweaks[i]);
    Lanes::Store(
        out + static_cast<size_t>(i) * sizeof(Vector),
        kEncrypt ? Lanes::EncryptLast(blocks[i], last) : Lanes::DecryptLast(blocks[i], last));
  }
  if (kFollowing) {
    scratch->following = Lanes::EncryptLast(following, Lanes::Broadcast(tweak_keys + kRounds));
  }
}

/// The first tweaks of a run's first sectors: nothing to hide them behind yet.
template <class Lanes>
KEYHOLD_XTS_INLINE void BeginRun(const __m128i* tweak_keys, Scratch<Lanes>* scratch) {
  asm volatile("" : "+r"(tweak_keys), "+r"(scratch) : : "memory");
  auto starts = Lanes::Xor(scratch->units, Lanes::Broadcast(tweak_keys));
#pragma GCC unroll 16
  for (int round = 1; round < kRounds; ++round) {
    starts = Lanes::Encrypt(starts, Lanes::Broadcast(tweak_keys + round));
  }
  scratch->starts = Lanes::EncryptLast(starts, Lanes::Broadcast(tweak_keys + kRounds));
}

/// One direction of a kernel (ScheduledKernel::Run).
template <class Lanes, bool kEncrypt>
KEYHOLD_XTS_TARGET void RunSectors(const Schedule& schedule, const uint8_t* in, uint8_t* out,
                                   size_t length_bytes, uint64_t first_unit,
                                   size_t sector_size_bytes) {
  constexpr size_t kGroupBytes = kVectors * sizeof(typename Lanes::Vector);
  if (length_bytes == 0) return;
  const __m128i* keys = kEncrypt ? schedule.data_encrypt : schedule.data_decrypt;
  const __m128i* tweak_keys = schedule.tweak_encrypt;
  const uint64_t units_per_sector = sector_size_bytes / 512;
  Scratch<Lanes> scratch;
  scratch.units = Lanes::Units(first_unit, units_per_sector);
  BeginRun(tweak_keys, &scratch);
  const uint8_t* const end = in + length_bytes;
  uint64_t unit = first_unit;
  while (in != end) {
    unit += Lanes::kBlocks * units_per_sector;
    scratch.units = Lanes::Units(unit, units_per_sector);
    for (size_t sector = 0; sector < Lanes::kBlocks && in != end; ++sector) {
      const uint8_t* const sector_end = in + sector_size_bytes;
      BeginSector(&scratch, sector);
      if (sector == 0) {
        Group<Lanes, kEncrypt, true>(keys, tweak_keys, &scratch, in, out);
      } else {
        Group<Lanes, kEncrypt, false>(keys, tweak_keys, &scratch, in, out);
      }
      for (in += kGroupBytes, out += kGroupBytes; in != sector_end;
           in += kGroupBytes, out += kGroupBytes) {
        Advance(&scratch);
        Group<Lanes, kEncrypt, false>(keys, tweak_keys, &scratch, in, out);
      }
    }
    scratch.starts = scratch.following;
  }
  Lanes::ClearRegisters();
}

}  // namespace
}  // namespace keyhold::xts

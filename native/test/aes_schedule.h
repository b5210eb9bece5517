// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace keyhold::testing {

/// A plain AES-256 key expansion (FIPS 197 section 5.2), only to know what to search memory for. It
/// works in the 240 bytes it is given, so that the caller decides where round keys lie.
class AesSchedule {
 public:
  static constexpr size_t kBytes = 240;

  /// `keys` begins with the 32-byte key; the 13 round keys that follow from it are appended.
  static void Expand(std::span<uint8_t, kBytes> keys) {
    uint8_t rcon = 1;
    for (size_t word = 8; word < 60; ++word) {
      uint8_t* out = &keys[word * 4];
      const uint8_t* last = out - 4;
      for (size_t i = 0; i < 4; ++i) {
        uint8_t byte = word % 8 == 0 ? Sbox()[last[(i + 1) % 4]] : last[i];
        if (word % 8 == 4) byte = Sbox()[last[i]];
        if (word % 8 == 0 && i == 0) byte ^= rcon;
        out[i] = static_cast<uint8_t>(out[static_cast<long>(i) - 32] ^ byte);
      }
      if (word % 8 == 0) rcon = Double(rcon);
    }
  }

  /// InvMixColumns of one round key: the form that decryption keeps (FIPS 197 section 5.3.5).
  static void Invert(std::span<uint8_t, 16> key) {
    for (size_t column = 0; column < 16; column += 4) {
      uint8_t out[4];
      for (size_t i = 0; i < 4; ++i) {
        out[i] = static_cast<uint8_t>(
            Times(key[column + i], 14) ^ Times(key[column + (i + 1) % 4], 11) ^
            Times(key[column + (i + 2) % 4], 13) ^ Times(key[column + (i + 3) % 4], 9));
      }
      for (size_t i = 0; i < 4; ++i) key[column + i] = out[i];
    }
  }

 private:
  static uint8_t Double(uint8_t value) {
    return static_cast<uint8_t>((value << 1) ^ ((value & 0x80) != 0 ? 0x1b : 0));
  }

  static uint8_t Times(uint8_t value, uint8_t factor) {
    uint8_t product = 0;
    for (; factor != 0; factor = static_cast<uint8_t>(factor >> 1), value = Double(value)) {
      if ((factor & 1) != 0) product ^= value;
    }
    return product;
  }

  static const std::array<uint8_t, 256>& Sbox() {
    static const std::array<uint8_t, 256> kSbox = [] {
      std::array<uint8_t, 256> box{};
      for (unsigned int value = 0; value < 256; ++value) {
        uint8_t inverse = 1;  // value^254, the inverse in GF(2^8); 0 stays 0
        for (int i = 0; i < 254; ++i) inverse = Times(inverse, static_cast<uint8_t>(value));
        uint8_t out = 0x63;
        for (unsigned int shift = 0; shift < 5; ++shift) {
          out ^= static_cast<uint8_t>((inverse << shift) | (inverse >> (8 - shift)));
        }
        box[value] = out;
      }
      return box;
    }();
    return kSbox;
  }
};

}  // namespace keyhold::testing

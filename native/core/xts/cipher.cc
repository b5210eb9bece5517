// SPDX-License-Identifier: Apache-2.0
#include "core/xts/cipher.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/secret/secret_buffer.h"
#include "core/xts/aesni_cipher.h"
#include "core/xts/evp_cipher.h"
#include "core/xts/vaes_cipher.h"

namespace keyhold::xts {
namespace {

using Create = Result<std::unique_ptr<Cipher>> (*)(std::span<const uint8_t>, uint32_t);

struct Kernel {
  std::string_view name;
  bool (*available)();
  Create create;
};

// Best first.
constexpr Kernel kKernels[] = {
    {"vaes512", HasVaes512, CreateVaes512Cipher},
    {"vaes256", HasVaes256, CreateVaes256Cipher},
    {"aesni", HasAesni, CreateAesniCipher},
    {"evp", [] { return true; }, CreateEvpCipher},
};

Error Refuse(std::string message) {
  return Error{ErrorCode::kInvalidArgument, 0, "create cipher: " + message};
}

}  // namespace

std::vector<std::string_view> AvailableKernels() {
  std::vector<std::string_view> names;
  for (const Kernel& kernel : kKernels) {
    if (kernel.available()) names.push_back(kernel.name);
  }
  return names;
}

Result<std::unique_ptr<Cipher>> CreateCipher(std::string_view kernel, std::span<const uint8_t> dek,
                                             uint32_t sector_size_bytes) {
  if (dek.size() != kDekBytes) {
    return Refuse("dek has " + std::to_string(dek.size()) + " bytes, expected " +
                  std::to_string(kDekBytes));
  }
  if (sector_size_bytes != 512 && sector_size_bytes != 4096) {
    return Refuse("sector size is " + std::to_string(sector_size_bytes) +
                  " bytes, expected 512 or 4096");
  }
  // With equal halves XTS loses its security proof (IEEE 1619-2018; FIPS 140 IG C.I). OpenSSL lets
  // decryption pass with them, so the check stands here, for every kernel and both directions.
  if (SecretEqual(dek.first(kDekBytes / 2), dek.last(kDekBytes / 2))) {
    return Refuse("the data key equals the tweak key");
  }
  for (const Kernel& candidate : kKernels) {
    if (kernel != "auto" && kernel != candidate.name) continue;
    if (candidate.available()) return candidate.create(dek, sector_size_bytes);
  }
  std::string names;
  for (const std::string_view name : AvailableKernels()) names.append(" ").append(name);
  return Refuse("kernel \"" + std::string(kernel) + "\" asked, this machine runs:" + names);
}

bool AllZero(const uint8_t* data, size_t length_bytes) {
  if (length_bytes == 0) return true;
  // Ciphertext nearly always ends it at the first word.
  uint64_t first = 0;
  std::memcpy(&first, data, std::min(sizeof first, length_bytes));
  if (first != 0) return false;
  // Comparing the bytes with themselves, one further on, leaves the loop to the C library's widest
  // memcmp.
  return std::memcmp(data, data + 1, length_bytes - 1) == 0;
}

void DecryptRunWithHoles(const Cipher& cipher, const uint8_t* in, uint8_t* out, size_t length_bytes,
                         uint64_t first_unit, uint32_t sector_size_bytes) {
  size_t start = 0;
  while (start < length_bytes) {
    const bool hole = AllZero(in + start, sector_size_bytes);
    size_t end = start + sector_size_bytes;
    while (end < length_bytes && AllZero(in + end, sector_size_bytes) == hole) {
      end += sector_size_bytes;
    }
    if (!hole) {
      cipher.DecryptRun(in + start, out + start, end - start, first_unit + start / 512);
    } else if (in != out) {
      std::memset(out + start, 0, end - start);
    }
    start = end;
  }
}

}  // namespace keyhold::xts

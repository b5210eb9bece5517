// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/xts/cipher.h"

namespace keyhold::testing {

inline std::vector<uint8_t> FromHex(std::string_view hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

inline std::unique_ptr<xts::Cipher> MakeCipher(std::string_view kernel,
                                               const std::vector<uint8_t>& dek,
                                               uint32_t sector_size_bytes) {
  auto cipher = xts::CreateCipher(kernel, dek, sector_size_bytes);
  EXPECT_TRUE(cipher.ok()) << cipher.error().message;
  return cipher.Take();
}

/// The oracle, independent of our code: OpenSSL, one context per sector, tweak = plain64.
inline std::vector<uint8_t> OpensslEncrypt(const std::vector<uint8_t>& dek,
                                           const std::vector<uint8_t>& plain, uint64_t first_unit,
                                           size_t sector_size_bytes) {
  std::vector<uint8_t> out(plain.size());
  for (size_t at = 0; at < plain.size(); at += sector_size_bytes) {
    const uint64_t unit = first_unit + at / 512;
    uint8_t tweak[16] = {};
    std::memcpy(tweak, &unit, sizeof unit);  // the tests run on little-endian machines
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    int written = 0;
    EXPECT_EQ(EVP_EncryptInit_ex(context, EVP_aes_256_xts(), nullptr, dek.data(), tweak), 1);
    EXPECT_EQ(EVP_EncryptUpdate(context, out.data() + at, &written, plain.data() + at,
                                static_cast<int>(sector_size_bytes)),
              1);
    EVP_CIPHER_CTX_free(context);
  }
  return out;
}

}  // namespace keyhold::testing

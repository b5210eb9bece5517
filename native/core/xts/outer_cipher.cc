// SPDX-License-Identifier: Apache-2.0
#include "core/xts/outer_cipher.h"

#include <string>
#include <utility>

#include "core/xts/double_cipher.h"

namespace keyhold::xts {

OuterCipher::OuterCipher(std::unique_ptr<Cipher> cipher, uint32_t sector_size_bytes)
    : cipher_(std::move(cipher)), sector_size_bytes_(sector_size_bytes) {}

Result<std::shared_ptr<OuterCipher>> OuterCipher::Create(std::span<const uint8_t> dek,
                                                         uint32_t sector_size_bytes) {
  auto cipher = CreateCipher("auto", dek, sector_size_bytes);
  if (!cipher) return cipher.error();
  return std::shared_ptr<OuterCipher>(new OuterCipher(cipher.Take(), sector_size_bytes));
}

Status OuterCipher::Check(const char* operation, size_t length_bytes, uint64_t offset_bytes) const {
  if (cipher_ == nullptr) {
    return Error{ErrorCode::kKeyWiped, 0, std::string(operation) + ": the outer key was wiped"};
  }
  if (length_bytes % sector_size_bytes_ == 0 && offset_bytes % sector_size_bytes_ == 0 &&
      offset_bytes <= kInnerHeaderBytes && length_bytes <= kInnerHeaderBytes - offset_bytes) {
    return Ok();
  }
  return Error{ErrorCode::kInvalidArgument, 0,
               std::string(operation) + ": " + std::to_string(length_bytes) + " bytes at " +
                   std::to_string(offset_bytes) + ", expected whole sectors of " +
                   std::to_string(sector_size_bytes_) + " bytes below " +
                   std::to_string(kInnerHeaderBytes)};
}

Status OuterCipher::Encrypt(std::span<uint8_t> bytes, uint64_t offset_bytes) const {
  Status checked = Check("encrypt the inner header", bytes.size(), offset_bytes);
  if (checked) cipher_->EncryptRun(bytes.data(), bytes.data(), bytes.size(), offset_bytes / 512);
  return checked;
}

Status OuterCipher::Decrypt(std::span<uint8_t> bytes, uint64_t offset_bytes) const {
  Status checked = Check("decrypt the inner header", bytes.size(), offset_bytes);
  if (checked) cipher_->DecryptRun(bytes.data(), bytes.data(), bytes.size(), offset_bytes / 512);
  return checked;
}

void OuterCipher::Wipe() {
  if (cipher_ != nullptr) cipher_->Wipe();
  cipher_.reset();
}

}  // namespace keyhold::xts

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.h"
#include "core/xts/cipher.h"

namespace keyhold::xts {

/// The outer pass alone, for the inner container's header (docs/KEYS.md section 4): the control
/// plane reads and writes that as it does any header. Belongs to one thread. Wiped by `Wipe` and
/// with the object; from then on every call is kKeyWiped.
class OuterCipher {
 public:
  static Result<std::shared_ptr<OuterCipher>> Create(std::span<const uint8_t> dek,
                                                     uint32_t sector_size_bytes);
  ~OuterCipher() { Wipe(); }
  OuterCipher(const OuterCipher&) = delete;
  OuterCipher& operator=(const OuterCipher&) = delete;

  /// In place. `offset_bytes` counts from the start of the outer container's data.
  /// kInvalidArgument unless it and the length are whole sectors, and the end is below
  /// kInnerHeaderBytes: this object never touches the disk's data.
  Status Encrypt(std::span<uint8_t> bytes, uint64_t offset_bytes) const;
  /// Holes are not looked for: a sector of zeros decrypts to what no header begins with.
  Status Decrypt(std::span<uint8_t> bytes, uint64_t offset_bytes) const;

  void Wipe();

 private:
  OuterCipher(std::unique_ptr<Cipher> cipher, uint32_t sector_size_bytes);
  Status Check(const char* operation, size_t length_bytes, uint64_t offset_bytes) const;

  std::unique_ptr<Cipher> cipher_;  // null once wiped
  const uint32_t sector_size_bytes_;
};

}  // namespace keyhold::xts

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "core/base/result.h"
#include "core/keys/dek.h"
#include "core/keys/set_key.h"
#include "core/secret/secret_buffer.h"

namespace keyhold {

inline constexpr size_t kPlatformKeyBytes = 32;

/// The host's key (docs/KEYS.md section 4) in secret memory, as long as the object lives.
/// Immutable: every call may run on several threads at once. Nobody can revoke it, so it has no
/// lease.
class PlatformKey {
 public:
  /// Writes a new random key to `path`, where nothing may be: mode 0600, file and directory made
  /// durable. Errors name the path; on error no file of this call is left.
  static Result<std::shared_ptr<PlatformKey>> CreateFile(const std::string& path);

  /// Reads a regular file of exactly 32 bytes. Unless it is a `credential` (which systemd protects
  /// in its own way), it must belong to root or to this process's user, give group and others
  /// nothing, and be no symbolic link: else kInvalidArgument with what was found and expected.
  static Result<std::shared_ptr<PlatformKey>> Load(const std::string& path, bool credential);

  /// The first 16 bytes of HMAC-SHA-256(key, "keyhold platform key id"), in lower-case hex. Tells
  /// keys apart and, HMAC being a pseudorandom function, nothing else of them.
  const std::string& id() const { return id_; }

  /// kKeyWiped when `key` may not be used.
  Result<SealedSetKey> SealSetKey(const SetKey& key, std::span<const uint8_t> aad) const;
  /// kUnseal as SetKey::Open.
  Result<std::shared_ptr<SetKey>> OpenSetKey(const SealedSetKey& sealed,
                                             std::span<const uint8_t> aad) const;

  /// As SetKey's, for the outer layer of double encryption.
  Result<NewDek> CreateDek(std::span<const uint8_t> aad) const;
  Result<SecretBuffer> OpenDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                               const DekDigest& digest) const;
  Status ExportDek(const SealedDek& sealed, std::span<const uint8_t> aad, const DekDigest& digest,
                   const std::string& path) const;

 private:
  PlatformKey(SecretBuffer key, std::string id);
  static Result<std::shared_ptr<PlatformKey>> Make(SecretBuffer key);

  const SecretBuffer key_;
  const std::string id_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/disk/lease.h"
#include "core/keys/dek.h"
#include "core/secret/secret_buffer.h"

namespace keyhold {

inline constexpr size_t kSetKeyBytes = 32;

/// A set key under AES-256-GCM with the platform key.
using SealedSetKey = Sealed<kSetKeyBytes>;

/// A set key in secret memory. Thread-safe. Wiped by `Wipe`, by the destructor, and by
/// `WipeIfLeaseEnded` (which the data plane's timer calls, so that a hung control plane cannot keep
/// it). Every use of a key that was wiped, or whose lease has ended, is kKeyWiped.
class SetKey {
 public:
  static Result<std::shared_ptr<SetKey>> Generate();

  /// Reads exactly 32 bytes and then end-of-file from the pipe `read_fd` into secret memory, within
  /// `timeout_ms`. Fewer or more bytes are kInvalidArgument with both counts. Closes `read_fd`.
  static Result<std::shared_ptr<SetKey>> Receive(int read_fd, int timeout_ms);

  /// RSA-OAEP-256 (SHA-256 for hash and MGF1, no label) under the public key (n, e big-endian).
  /// Modulus of 2048, 3072 or 4096 bits only.
  Result<std::vector<uint8_t>> Wrap(std::span<const uint8_t> modulus,
                                    std::span<const uint8_t> exponent) const;

  /// Opens what Seal has made. kUnseal when it is corrupt, was tampered with, or another
  /// `platform_key` (32 bytes) sealed it.
  static Result<std::shared_ptr<SetKey>> Open(std::span<const uint8_t> platform_key,
                                              const SealedSetKey& sealed,
                                              std::span<const uint8_t> aad);
  Result<SealedSetKey> Seal(std::span<const uint8_t> platform_key,
                            std::span<const uint8_t> aad) const;

  /// Generates a DEK, seals it under `aad`, computes its digest, wipes the DEK.
  Result<NewDek> CreateDek(std::span<const uint8_t> aad) const;

  /// Opens a sealed DEK into secret memory and checks it against `digest`: kUnseal when the seal
  /// does not verify, kDigest when the DEK is another one.
  Result<SecretBuffer> OpenDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                               const DekDigest& digest) const;

  /// The DEK of OpenDek, sealed anew by `to` (which may be this key) under `new_aad`. The two keys
  /// are never locked at once. kKeyWiped unless both may be used.
  Result<SealedDek> ResealDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                              const DekDigest& digest, const SetKey& to,
                              std::span<const uint8_t> new_aad) const;

  /// Writes the DEK of OpenDek to a new file, as WriteNewKeyFile does. kSystem with the path.
  Status ExportDek(const SealedDek& sealed, std::span<const uint8_t> aad, const DekDigest& digest,
                   const std::string& path) const;

  bool Equals(const SetKey& other) const;

  void BindLease(std::shared_ptr<const Lease> lease);
  /// Returns true when this call wiped the key.
  bool WipeIfLeaseEnded(int64_t now_ns);
  void Wipe();
  bool wiped() const;

 private:
  explicit SetKey(SecretBuffer key);
  /// kKeyWiped unless the key may be used now. The caller holds mutex_.
  Status Usable(const char* operation) const;
  void WipeLocked();
  Result<SealedDek> SealLocking(const char* operation, std::span<const uint8_t> dek,
                                std::span<const uint8_t> aad) const;

  mutable std::mutex mutex_;  // guards every member below
  SecretBuffer key_;
  bool wiped_ = false;
  std::shared_ptr<const Lease> lease_;
};

}  // namespace keyhold

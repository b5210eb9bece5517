// SPDX-License-Identifier: Apache-2.0
#include "core/keys/platform_key.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "core/io/unique_fd.h"
#include "core/keys/key_file.h"
#include "core/keys/openssl_errors.h"

namespace keyhold {
namespace {

constexpr std::string_view kIdText = "keyhold platform key id";
constexpr size_t kIdBytes = 16;
constexpr mode_t kForOthers = S_IRWXG | S_IRWXO;

Error SystemError(const std::string& operation, int error) {
  return Error{ErrorCode::kSystem, error, operation + ": " + strerrordesc_np(error)};
}

Error Refuse(const std::string& operation, const std::string& why) {
  return Error{ErrorCode::kInvalidArgument, 0, operation + ": " + why};
}

std::string Octal(mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%04o", static_cast<unsigned>(mode & 07777));
  return text;
}

/// Whoever could read or replace the file would have the key.
Status CheckAccess(const std::string& operation, const struct stat& status) {
  const uid_t own = ::geteuid();
  if (status.st_uid != 0 && status.st_uid != own) {
    return Refuse(operation, "its owner is uid " + std::to_string(status.st_uid) +
                                 ", expected 0 (root) or " + std::to_string(own));
  }
  if ((status.st_mode & kForOthers) != 0) {
    return Refuse(operation, "its mode is " + Octal(status.st_mode) +
                                 ", expected 0600 or 0400: nothing for group and others");
  }
  return Ok();
}

Status CheckKind(const std::string& operation, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) return Refuse(operation, "it is no regular file");
  if (status.st_size != static_cast<off_t>(kPlatformKeyBytes)) {
    return Refuse(operation, "it has " + std::to_string(status.st_size) + " bytes, expected " +
                                 std::to_string(kPlatformKeyBytes));
  }
  return Ok();
}

/// Exactly as many bytes as `into` has; the file may have become shorter since it was looked at.
Status ReadAll(const std::string& operation, int fd, std::span<uint8_t> into) {
  size_t done = 0;
  while (done < into.size()) {
    const ssize_t count = ::read(fd, into.data() + done, into.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return SystemError(operation, errno);
    if (count == 0) {
      return Refuse(operation, "it ended after " + std::to_string(done) + " bytes, expected " +
                                   std::to_string(into.size()));
    }
    done += static_cast<size_t>(count);
  }
  return Ok();
}

}  // namespace

PlatformKey::PlatformKey(SecretBuffer key, std::string id)
    : key_(std::move(key)), id_(std::move(id)) {}

/// HMAC zeroes its copies of the key when it is done (hmac.c: HMAC_CTX_free; the provider's
/// OPENSSL_secure_clear_free).
Result<std::shared_ptr<PlatformKey>> PlatformKey::Make(SecretBuffer key) {
  const OpensslErrors errors;
  std::array<uint8_t, 32> digest{};
  unsigned int length = 0;
  const auto bytes = std::as_const(key).bytes();
  if (HMAC(EVP_sha256(), bytes.data(), static_cast<int>(bytes.size()),
           reinterpret_cast<const uint8_t*>(kIdText.data()), kIdText.size(), digest.data(),
           &length) == nullptr ||
      length != digest.size()) {
    return Error{ErrorCode::kCrypto, 0, "platform key id: openssl refused the operation"};
  }
  std::string id;
  for (size_t i = 0; i < kIdBytes; ++i) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", static_cast<unsigned>(digest[i]));
    id.append(hex);
  }
  return std::shared_ptr<PlatformKey>(new PlatformKey(std::move(key), std::move(id)));
}

Result<std::shared_ptr<PlatformKey>> PlatformKey::CreateFile(const std::string& path) {
  const std::string operation = "create platform key file " + path;
  auto key = SecretBuffer::Allocate(kPlatformKeyBytes);
  if (!key) return key.error();
  {
    const OpensslErrors errors;
    if (RAND_priv_bytes(key.value().bytes().data(), static_cast<int>(kPlatformKeyBytes)) != 1) {
      return Error{ErrorCode::kCrypto, 0, operation + ": openssl gave no random bytes"};
    }
  }
  const Status written = WriteNewKeyFile(operation, path, std::as_const(key).value().bytes());
  if (!written) return written.error();
  return Make(key.Take());
}

Result<std::shared_ptr<PlatformKey>> PlatformKey::Load(const std::string& path, bool credential) {
  const std::string operation = "load platform key " + path;
  // Without O_NONBLOCK a FIFO would hold the start of the daemon.
  const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  const UniqueFd fd(::open(path.c_str(), credential ? flags : flags | O_NOFOLLOW));
  if (fd.get() < 0 && errno == ELOOP && !credential) {
    return Refuse(operation, "it is a symbolic link, expected the file itself");
  }
  if (fd.get() < 0) return SystemError(operation, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return SystemError(operation, errno);
  if (const Status kind = CheckKind(operation, status); !kind) return kind.error();
  if (!credential) {
    if (const Status access = CheckAccess(operation, status); !access) return access.error();
  }
  auto key = SecretBuffer::Allocate(kPlatformKeyBytes);
  if (!key) return key.error();
  if (const Status read = ReadAll(operation, fd.get(), key.value().bytes()); !read) {
    return read.error();
  }
  return Make(key.Take());
}

Result<SealedSetKey> PlatformKey::SealSetKey(const SetKey& key,
                                             std::span<const uint8_t> aad) const {
  return key.Seal(key_.bytes(), aad);
}

Result<std::shared_ptr<SetKey>> PlatformKey::OpenSetKey(const SealedSetKey& sealed,
                                                        std::span<const uint8_t> aad) const {
  return SetKey::Open(key_.bytes(), sealed, aad);
}

Result<NewDek> PlatformKey::CreateDek(std::span<const uint8_t> aad) const {
  return CreateDekWith(
      [&](std::span<const uint8_t> dek) { return SealDek(key_.bytes(), dek, aad); });
}

Result<SecretBuffer> PlatformKey::OpenDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                                          const DekDigest& digest) const {
  return OpenDekWith([&] { return UnsealDek(key_.bytes(), sealed, aad); }, digest);
}

Status PlatformKey::ExportDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                              const DekDigest& digest, const std::string& path) const {
  return WriteDekFile(OpenDek(sealed, aad, digest), path);
}

}  // namespace keyhold

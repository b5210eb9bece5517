// SPDX-License-Identifier: Apache-2.0
#include "core/keys/set_key.h"

#include <openssl/rand.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "core/keys/openssl_errors.h"
#include "core/keys/rsa_wrap.h"

namespace keyhold {
namespace {

Error SystemError(const std::string& operation, int error) {
  return Error{ErrorCode::kSystem, error, operation + ": " + strerrordesc_np(error)};
}

int64_t MonotonicMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

/// Closes the descriptor on every way out.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }

 private:
  int fd_;
};

/// Waits until `fd` has data or its other end is closed.
Status AwaitReadable(int fd, int64_t deadline_ms, int timeout_ms) {
  for (;;) {
    const int64_t left_ms = std::max<int64_t>(deadline_ms - MonotonicMs(), 0);
    pollfd entry{fd, POLLIN, 0};
    const int ready = poll(&entry, 1, static_cast<int>(left_ms));
    if (ready > 0 && (entry.revents & POLLNVAL) != 0) {
      return SystemError("receive set key: poll the pipe", EBADF);
    }
    if (ready > 0) return Ok();
    if (ready < 0 && errno != EINTR) return SystemError("receive set key: poll the pipe", errno);
    if (ready == 0 && left_ms == 0) {
      return Error{ErrorCode::kTimeout, 0,
                   "receive set key: no complete key within " + std::to_string(timeout_ms) + " ms"};
    }
  }
}

/// Reads until end of file or until `into` is full; returns the count.
Result<size_t> ReadToEnd(int fd, int timeout_ms, std::span<uint8_t> into) {
  const int64_t deadline_ms = MonotonicMs() + timeout_ms;
  size_t received = 0;
  while (received < into.size()) {
    if (const Status ready = AwaitReadable(fd, deadline_ms, timeout_ms); !ready) {
      return ready.error();
    }
    const ssize_t count = read(fd, into.data() + received, into.size() - received);
    if (count == 0) break;
    if (count > 0) {
      received += static_cast<size_t>(count);
    } else if (errno != EINTR && errno != EAGAIN) {
      return SystemError("receive set key: read the pipe", errno);
    }
  }
  return received;
}

}  // namespace

SetKey::SetKey(SecretBuffer key) : key_(std::move(key)) {}

Result<std::shared_ptr<SetKey>> SetKey::Generate() {
  const OpensslErrors errors;
  auto key = SecretBuffer::Allocate(kSetKeyBytes);
  if (!key) return key.error();
  if (RAND_priv_bytes(key.value().bytes().data(), static_cast<int>(kSetKeyBytes)) != 1) {
    return Error{ErrorCode::kCrypto, 0, "generate set key: openssl gave no random bytes"};
  }
  return std::shared_ptr<SetKey>(new SetKey(key.Take()));
}

Result<std::shared_ptr<SetKey>> SetKey::Receive(int read_fd, int timeout_ms) {
  const OwnedFd owned(read_fd);
  if (timeout_ms < 0) {
    return Error{
        ErrorCode::kInvalidArgument, 0,
        "receive set key: timeout is " + std::to_string(timeout_ms) + " ms, expected 0 or more"};
  }
  // One byte more than a key, so that a longer message shows.
  auto message = SecretBuffer::Allocate(kSetKeyBytes + 1);
  if (!message) return message.error();
  const auto received = ReadToEnd(read_fd, timeout_ms, message.value().bytes());
  if (!received) return received.error();
  if (received.value() != kSetKeyBytes) {
    const char* qualifier = received.value() > kSetKeyBytes ? "at least " : "";
    return Error{ErrorCode::kInvalidArgument, 0,
                 "receive set key: got " + std::string(qualifier) +
                     std::to_string(received.value()) + " bytes, expected " +
                     std::to_string(kSetKeyBytes)};
  }
  auto key = SecretBuffer::Allocate(kSetKeyBytes);
  if (!key) return key.error();
  SecretCopy(key.value().bytes(), message.value().bytes().first(kSetKeyBytes));
  return std::shared_ptr<SetKey>(new SetKey(key.Take()));
}

Status SetKey::Usable(const char* operation) const {
  if (wiped_) {
    return Error{ErrorCode::kKeyWiped, 0, std::string(operation) + ": the set key was wiped"};
  }
  // The timer that wipes may be late; the deadline is not.
  if (lease_ != nullptr && !lease_->Holds(BootTimeNs())) {
    return Error{ErrorCode::kKeyWiped, 0,
                 std::string(operation) + ": the lease of the set key has ended"};
  }
  return Ok();
}

Result<std::vector<uint8_t>> SetKey::Wrap(std::span<const uint8_t> modulus,
                                          std::span<const uint8_t> exponent) const {
  const std::lock_guard lock(mutex_);
  if (const Status usable = Usable("wrap set key"); !usable) return usable.error();
  return RsaOaepWrap(modulus, exponent, key_.bytes());
}

Result<std::shared_ptr<SetKey>> SetKey::Open(std::span<const uint8_t> platform_key,
                                             const SealedSetKey& sealed,
                                             std::span<const uint8_t> aad) {
  auto key = SecretBuffer::Allocate(kSetKeyBytes);
  if (!key) return key.error();
  const Status opened =
      OpenBytes(platform_key, {"open sealed set key", aad},
                {sealed.nonce, sealed.ciphertext, sealed.tag}, key.value().bytes());
  if (!opened && opened.error().code == ErrorCode::kUnseal) {
    return Error{ErrorCode::kUnseal, 0,
                 opened.error().message + ", or another platform key sealed it"};
  }
  if (!opened) return opened.error();
  return std::shared_ptr<SetKey>(new SetKey(key.Take()));
}

Result<SealedSetKey> SetKey::Seal(std::span<const uint8_t> platform_key,
                                  std::span<const uint8_t> aad) const {
  const std::lock_guard lock(mutex_);
  if (const Status usable = Usable("seal set key"); !usable) return usable.error();
  SealedSetKey sealed{};
  const Status done = SealBytes(platform_key, {"seal set key", aad}, key_.bytes(),
                                {sealed.nonce, sealed.ciphertext, sealed.tag});
  if (!done) return done.error();
  return sealed;
}

Result<NewDek> SetKey::CreateDek(std::span<const uint8_t> aad) const {
  return CreateDekWith(
      [&](std::span<const uint8_t> dek) { return SealLocking("create dek", dek, aad); });
}

Result<SealedDek> SetKey::SealLocking(const char* operation, std::span<const uint8_t> dek,
                                      std::span<const uint8_t> aad) const {
  const std::lock_guard lock(mutex_);
  if (const Status usable = Usable(operation); !usable) return usable.error();
  return SealDek(key_.bytes(), dek, aad);
}

Result<SecretBuffer> SetKey::OpenDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                                     const DekDigest& digest) const {
  // The lambda ends the lock before PBKDF2, so that a wipe never waits for that.
  return OpenDekWith(
      [&]() -> Result<SecretBuffer> {
        const std::lock_guard lock(mutex_);
        if (const Status usable = Usable("open sealed dek"); !usable) return usable.error();
        return UnsealDek(key_.bytes(), sealed, aad);
      },
      digest);
}

Result<SealedDek> SetKey::ResealDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                                    const DekDigest& digest, const SetKey& to,
                                    std::span<const uint8_t> new_aad) const {
  const auto dek = OpenDek(sealed, aad, digest);
  if (!dek) return dek.error();
  return to.SealLocking("reseal dek", dek.value().bytes(), new_aad);
}

Status SetKey::ExportDek(const SealedDek& sealed, std::span<const uint8_t> aad,
                         const DekDigest& digest, const std::string& path) const {
  return WriteDekFile(OpenDek(sealed, aad, digest), path);
}

bool SetKey::Equals(const SetKey& other) const {
  if (this == &other) return !wiped();  // one mutex cannot be locked twice
  const std::scoped_lock lock(mutex_, other.mutex_);
  return !wiped_ && !other.wiped_ && SecretEqual(key_.bytes(), other.key_.bytes());
}

void SetKey::BindLease(std::shared_ptr<const Lease> lease) {
  const std::lock_guard lock(mutex_);
  lease_ = std::move(lease);
}

bool SetKey::WipeIfLeaseEnded(int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (wiped_ || lease_ == nullptr || lease_->Holds(now_ns)) return false;
  WipeLocked();
  return true;
}

void SetKey::Wipe() {
  const std::lock_guard lock(mutex_);
  WipeLocked();
}

bool SetKey::wiped() const {
  const std::lock_guard lock(mutex_);
  return wiped_;
}

void SetKey::WipeLocked() {
  key_.Wipe();
  wiped_ = true;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/secret/secret_buffer.h"

#include <openssl/crypto.h>
#include <string.h>

#include <cstdlib>
#include <string>
#include <utility>

namespace keyhold {
namespace {

constexpr size_t kBytesMax = size_t{1} << 20;  // locked memory is scarce; a key is at most 64 bytes

}  // namespace

Result<SecretBuffer> SecretBuffer::Allocate(size_t size_bytes) {
  if (size_bytes < 1 || size_bytes > kBytesMax) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "allocate secret memory: " + std::to_string(size_bytes) + " bytes asked, 1 to " +
                     std::to_string(kBytesMax) + " possible"};
  }
  SecretBuffer buffer;
  buffer.size_bytes_ = size_bytes;
  if (size_bytes <= secret::kPooledBytesMax) {
    auto slot = secret::SecretArena::Instance().Take(size_bytes);
    if (!slot) return slot.error();
    buffer.data_ = slot.value().data;
    buffer.block_ = slot.value().block;
  } else {
    auto pages = secret::MapSecretPages(size_bytes);
    if (!pages) return pages.error();
    buffer.data_ = pages.value().data;
    buffer.pages_ = pages.value();
  }
  return buffer;
}

SecretBuffer::SecretBuffer(SecretBuffer&& other) noexcept { Swap(other); }

SecretBuffer& SecretBuffer::operator=(SecretBuffer&& other) noexcept {
  SecretBuffer old(std::move(other));  // a move to itself leaves the buffer as it was
  Swap(old);
  return *this;
}

SecretBuffer::~SecretBuffer() {
  if (data_ == nullptr) return;
  if (block_ != nullptr) {
    secret::SecretArena::Instance().Give({data_, block_});
  } else {
    secret::UnmapSecretPages(pages_);
  }
}

void SecretBuffer::Wipe() {
  if (data_ != nullptr) explicit_bzero(data_, size_bytes_);
}

void SecretBuffer::Swap(SecretBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(block_, other.block_);
  std::swap(pages_, other.pages_);
}

void SecretCopy(std::span<uint8_t> to, std::span<const uint8_t> from) {
  if (to.size() < from.size()) std::abort();
  volatile uint8_t* const target = to.data();
  for (size_t i = 0; i < from.size(); ++i) target[i] = from[i];
}

bool SecretEqual(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
//
// Searches this process's own memory for key bytes. What is searched for is kept masked, so that
// the search does not find itself.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "core/keys/platform_key.h"
#include "core/keys/set_key.h"
#include "core/xts/double_cipher.h"
#include "test/aes_schedule.h"
#include "test/plane_fixture.h"
#include "test/random_bytes.h"

// The search reads every byte of every writable mapping, also what the sanitizers fence off.
#define KEYHOLD_UNSANITIZED \
  __attribute__((noinline, no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined")))

namespace keyhold {
namespace {

using testing::AesSchedule;

constexpr uint8_t kMask = 0x5a;
constexpr size_t kPieceBytes = 16;  // a round key, a quarter of a DEK, half a set key

struct Mapping {
  uintptr_t start;
  uintptr_t end;
  std::string name;
  bool secret;  // locked and excluded from dumps: what SecretBuffer gives
};

/// The writable mappings of this process (proc_pid_smaps(5)).
std::vector<Mapping> WritableMappings() {
  constexpr uintptr_t kShadowBytes = uintptr_t{1} << 34;  // larger ones are a sanitizer's shadow
  std::vector<Mapping> mappings;
  std::ifstream smaps("/proc/self/smaps");
  bool writable = false;
  for (std::string line; std::getline(smaps, line);) {
    Mapping mapping{};
    char mode[5] = {};
    unsigned long start = 0;
    unsigned long end = 0;
    int name_at = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %*s %*s %*s %n", &start, &end, mode, &name_at) ==
        3) {
      mapping.start = start;
      mapping.end = end;
      mapping.name = line.substr(std::min(static_cast<size_t>(name_at), line.size()));
      writable = std::strncmp(mode, "rw", 2) == 0 && end - start < kShadowBytes;
      if (writable) mappings.push_back(mapping);
    } else if (writable && line.rfind("VmFlags:", 0) == 0) {
      mappings.back().secret =
          line.find(" lo ") != std::string::npos && line.find(" dd") != std::string::npos;
    }
  }
  return mappings;
}

/// The parts of a mapping that have memory behind them (proc_pid_pagemap(5)): reading the rest
/// would allocate gigabytes of zeros under the sanitizers. In small steps, since an allocator that
/// gives a large buffer back to the system unmaps what is still to be searched.
std::vector<Mapping> ResidentParts(const Mapping& mapping) {
  constexpr uint64_t kPresentOrSwapped = uint64_t{3} << 62;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  std::array<uint64_t, 1024> entries;
  const int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::vector<Mapping> parts;
  for (uintptr_t at = mapping.start; at < mapping.end; at += entries.size() * page) {
    const size_t count = std::min(entries.size(), (mapping.end - at) / page);
    const size_t bytes = count * sizeof(uint64_t);
    const auto offset = static_cast<off_t>(at / page * sizeof(uint64_t));
    EXPECT_EQ(pread(pagemap, entries.data(), bytes, offset), static_cast<ssize_t>(bytes))
        << mapping.name;
    for (size_t i = 0; i < count; ++i) {
      if ((entries[i] & kPresentOrSwapped) == 0) continue;
      const uintptr_t start = at + i * page;
      if (parts.empty() || parts.back().end != start) {
        parts.push_back({start, start, mapping.name, mapping.secret});
      }
      parts.back().end = start + page;
    }
  }
  close(pagemap);
  return parts;
}

/// What to search for: 16-byte pieces, masked.
class Needles {
 public:
  KEYHOLD_UNSANITIZED void Add(std::string name, const uint8_t* piece) {
    Piece masked{std::move(name), {}, 0};
    for (size_t i = 0; i < kPieceBytes; ++i) {
      // volatile: whole pieces must not pass through vector registers, which end up on the stack.
      masked.bytes[i] =
          static_cast<uint8_t>(*static_cast<const volatile uint8_t*>(piece + i) ^ kMask);
    }
    uint16_t& newest = newest_[static_cast<size_t>(masked.bytes[0]) << 8 | masked.bytes[1]];
    masked.older = newest;
    pieces_.push_back(masked);
    newest = static_cast<uint16_t>(pieces_.size());
  }

  void AddAll(const std::string& name, std::span<const uint8_t> secret) {
    for (size_t at = 0; at + kPieceBytes <= secret.size(); at += kPieceBytes) {
      Add(name + "[" + std::to_string(at) + "]", secret.data() + at);
    }
  }

  /// The key itself, its round keys, those of decryption, and each with the bytes of a word swapped
  /// (how portable implementations keep them).
  void AddSchedule(const std::string& name, std::span<const uint8_t> key) {
    SecretBuffer work = SecretBuffer::Allocate(AesSchedule::kBytes).Take();
    const auto keys = work.bytes().first<AesSchedule::kBytes>();
    SecretCopy(keys, key);
    AesSchedule::Expand(keys);
    AddAll(name + " round keys", keys);
    AddSwapped(name + " round keys, swapped", keys);
    for (size_t at = 16; at < 224; at += 16) {
      AesSchedule::Invert(std::span<uint8_t, 16>(keys.data() + at, 16));
    }
    AddAll(name + " inverse round keys", keys.subspan(16, 208));
    AddSwapped(name + " inverse round keys, swapped", keys.subspan(16, 208));
  }

  /// Where any piece lies in memory now. `also_secret`: inside secret memory too.
  std::vector<std::string> Find(bool also_secret) const {
    std::vector<std::string> found;
    for (const Mapping& mapping : WritableMappings()) {
      if (mapping.secret && !also_secret) continue;
      for (const Mapping& part : ResidentParts(mapping)) Search(part, &found);
    }
    return found;
  }

 private:
  struct Piece {
    std::string name;
    uint8_t bytes[kPieceBytes];
    uint16_t older;  // number of the next piece that begins like this one; 0: none
  };

  void AddSwapped(const std::string& name, std::span<uint8_t> keys) {
    for (size_t at = 0; at < keys.size(); at += 4) std::reverse(&keys[at], &keys[at] + 4);
    AddAll(name, keys);
    for (size_t at = 0; at < keys.size(); at += 4) std::reverse(&keys[at], &keys[at] + 4);
  }

  KEYHOLD_UNSANITIZED void Search(const Mapping& mapping, std::vector<std::string>* found) const {
    const auto* memory = reinterpret_cast<const volatile uint8_t*>(mapping.start);
    const size_t bytes = mapping.end - mapping.start;
    const uint16_t* const newest = newest_.data();
    auto second = static_cast<uint8_t>(memory[0] ^ kMask);
    for (size_t at = 0; at + kPieceBytes <= bytes; ++at) {
      const uint8_t first = second;
      second = static_cast<uint8_t>(memory[at + 1] ^ kMask);
      // Not all pieces: gigabytes may be filled with the two bytes that one of them begins with.
      for (size_t number = newest[static_cast<size_t>(first) << 8 | second]; number > 0;) {
        const Piece& piece = pieces_[number - 1];
        number = piece.older;
        size_t same = 0;
        while (same < kPieceBytes && (memory[at + same] ^ kMask) == piece.bytes[same]) ++same;
        if (same == kPieceBytes) found->push_back(piece.name + " in " + mapping.name);
      }
    }
  }

  std::vector<Piece> pieces_;
  // By their first two bytes, the number of the newest piece that begins like this; 0: none.
  std::vector<uint16_t> newest_ = std::vector<uint16_t>(65536);
};

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += "\n  " + line;
  return text;
}

/// A set key that the test knows: it passes from secret memory through a pipe, as in production.
std::shared_ptr<SetKey> ReceiveKnown(Needles* needles) {
  SecretBuffer content = SecretBuffer::Allocate(kSetKeyBytes).Take();
  EXPECT_EQ(RAND_priv_bytes(content.bytes().data(), kSetKeyBytes), 1);
  needles->AddSchedule("set key", content.bytes());
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  EXPECT_EQ(write(ends[1], content.bytes().data(), kSetKeyBytes), ssize_t{kSetKeyBytes});
  close(ends[1]);
  return SetKey::Receive(ends[0], 1000).Take();
}

void AddDek(Needles* needles, const SecretBuffer& dek) {
  needles->AddSchedule("data key", dek.bytes().first(32));
  needles->AddSchedule("tweak key", dek.bytes().last(32));
}

/// Wraps under a public key that fits; who could unwrap it does not matter here.
void WrapOnce(const SetKey& key) {
  std::vector<uint8_t> modulus = testing::Random().Bytes(256);
  modulus.front() |= 0x80;
  modulus.back() |= 1;
  EXPECT_TRUE(key.Wrap(modulus, std::vector<uint8_t>{1, 0, 1}).ok());
}

void UseCipher(const xts::Cipher& cipher) {
  std::vector<uint8_t> data(4096 * 5, 0x33);
  cipher.EncryptRun(data.data(), data.data(), data.size(), 8);
  cipher.DecryptRun(data.data(), data.data(), data.size(), 8);
  xts::DecryptRunWithHoles(cipher, data.data(), data.data(), data.size(), 8, 4096);
}

TEST(MemorySearch, FindsAPlantedKeyOnTheHeapOnTheStackAndInAnExpandedSchedule) {
  Needles needles;
  std::vector<uint8_t> heap = testing::Random().Bytes(32);
  needles.AddSchedule("planted", heap);
  EXPECT_FALSE(needles.Find(false).empty());

  uint8_t stack[32];
  std::copy(heap.begin(), heap.end(), stack);
  std::fill(heap.begin(), heap.end(), uint8_t{0});
  EXPECT_FALSE(needles.Find(false).empty());

  // OpenSSL's context holds the schedule while it lives: the expansion above is the right one.
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  ASSERT_EQ(EVP_EncryptInit_ex(context, EVP_aes_256_ecb(), nullptr, stack, nullptr), 1);
  explicit_bzero(stack, sizeof stack);
  const auto found = needles.Find(false);
  EXPECT_GE(found.size(), 13U) << Join(found);
  EVP_CIPHER_CTX_free(context);
  const auto left = needles.Find(false);
  EXPECT_TRUE(left.empty()) << Join(left);
}

class KeyResidue : public ::testing::TestWithParam<std::string_view> {};

INSTANTIATE_TEST_SUITE_P(Kernels, KeyResidue, ::testing::ValuesIn(xts::AvailableKernels()),
                         [](const auto& name) { return std::string(name.param); });

TEST_P(KeyResidue, KeysInUseLieInSecretMemoryOnlyAndNowhereAfterTheWipe) {
  Needles needles;
  const std::vector<uint8_t> aad(100, 0x11);
  const std::shared_ptr<SetKey> key = ReceiveKnown(&needles);
  WrapOnce(*key);
  const auto created = key->CreateDek(aad).Take();
  auto dek =
      std::make_unique<SecretBuffer>(key->OpenDek(created.sealed, aad, created.digest).Take());
  AddDek(&needles, *dek);
  const auto cipher = xts::CreateCipher(GetParam(), dek->bytes(), 4096).Take();
  UseCipher(*cipher);

  const auto online = needles.Find(false);
  EXPECT_TRUE(online.empty()) << "outside secret memory while in use:" << Join(online);
  EXPECT_FALSE(needles.Find(true).empty()) << "the search must see the keys that are in use";

  dek.reset();
  cipher->Wipe();
  key->Wipe();
  const auto offline = needles.Find(true);
  EXPECT_TRUE(offline.empty()) << "anywhere after the wipe:" << Join(offline);
}

/// A platform key in a file, read back by the test into secret memory alone.
std::shared_ptr<PlatformKey> KnownPlatformKey(const std::string& path, Needles* needles) {
  EXPECT_TRUE(PlatformKey::CreateFile(path).ok());
  SecretBuffer content = SecretBuffer::Allocate(kPlatformKeyBytes).Take();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(read(fd, content.bytes().data(), kPlatformKeyBytes), ssize_t{kPlatformKeyBytes});
  close(fd);
  needles->AddSchedule("platform key", content.bytes());
  return PlatformKey::Load(path, false).Take();
}

TEST_P(KeyResidue, BothLayersLieInSecretMemoryOnlyAndNowhereAfterTheWipe) {
  Needles needles;
  const test::TempDirectory directory;
  const std::vector<uint8_t> aad(100, 0x11);
  std::shared_ptr<PlatformKey> platform = KnownPlatformKey(directory.File("key"), &needles);
  const std::shared_ptr<SetKey> key = ReceiveKnown(&needles);
  const SealedSetKey sealed = platform->SealSetKey(*key, aad).Take();
  EXPECT_TRUE(platform->OpenSetKey(sealed, aad).Take()->Equals(*key));
  const NewDek created = key->CreateDek(aad).Take();
  const NewDek outer_created = platform->CreateDek(aad).Take();
  const auto other = SetKey::Generate().Take();
  EXPECT_TRUE(key->ResealDek(created.sealed, aad, created.digest, *other, aad).ok());
  std::unique_ptr<xts::Cipher> cipher;
  {
    const SecretBuffer dek = key->OpenDek(created.sealed, aad, created.digest).Take();
    const SecretBuffer outer =
        platform->OpenDek(outer_created.sealed, aad, outer_created.digest).Take();
    AddDek(&needles, dek);
    AddDek(&needles, outer);
    cipher = xts::CreateDoubleCipher(GetParam(), dek.bytes(), outer.bytes(), 4096).Take();
  }
  UseCipher(*cipher);
  const auto online = needles.Find(false);
  EXPECT_TRUE(online.empty()) << "outside secret memory while in use:" << Join(online);

  cipher->Wipe();
  key->Wipe();
  platform.reset();
  const auto offline = needles.Find(true);
  EXPECT_TRUE(offline.empty()) << "anywhere after the wipe:" << Join(offline);
}

TEST(KeyResidueOfFailures, ARefusedDekLeavesNothingBehind) {
  Needles needles;
  const std::vector<uint8_t> aad(100, 0x11);
  const std::shared_ptr<SetKey> key = ReceiveKnown(&needles);
  const auto created = key->CreateDek(aad).Take();
  AddDek(&needles, key->OpenDek(created.sealed, aad, created.digest).Take());
  DekDigest other_digest = created.digest;
  other_digest.digest[0] ^= 1;
  EXPECT_FALSE(key->OpenDek(created.sealed, aad, other_digest).ok());
  SealedDek tampered = created.sealed;
  tampered.tag[0] ^= 1;
  EXPECT_FALSE(key->OpenDek(tampered, aad, created.digest).ok());
  key->Wipe();
  const auto left = needles.Find(true);
  EXPECT_TRUE(left.empty()) << Join(left);
}

TEST(KeyResidueOfFailures, AMessageOfTheWrongLengthLeavesNothingBehind) {
  Needles needles;
  {
    SecretBuffer content = SecretBuffer::Allocate(64).Take();
    ASSERT_EQ(RAND_priv_bytes(content.bytes().data(), 64), 1);
    needles.AddAll("message", content.bytes());
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    ASSERT_EQ(write(ends[1], content.bytes().data(), 64), 64);
    close(ends[1]);
    EXPECT_FALSE(SetKey::Receive(ends[0], 1000).ok());
  }
  const auto left = needles.Find(true);
  EXPECT_TRUE(left.empty()) << Join(left);
}

}  // namespace
}  // namespace keyhold

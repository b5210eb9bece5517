// SPDX-License-Identifier: Apache-2.0
#include "core/keys/platform_key.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>

#include "test/plane_fixture.h"
#include "test/random_bytes.h"

namespace keyhold::test {
namespace {

const Bytes kAad = {'v', '1', ' ', 's', 'e', 't'};

/// A file of `size` bytes with `mode`.
std::string FileOf(const TempDirectory& directory, size_t size, mode_t mode) {
  const std::string path = directory.File("key");
  testing::Random random;
  const Bytes bytes = random.Bytes(size);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(size));
  EXPECT_EQ(chmod(path.c_str(), mode), 0);
  return path;
}

Bytes ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

bool Says(const Error& error, const std::string& text) {
  return error.message.find(text) != std::string::npos;
}

class PlatformKeyTest : public ::testing::Test {
 protected:
  TempDirectory directory_;
  std::shared_ptr<PlatformKey> Fresh(const std::string& name = "fresh") {
    return PlatformKey::CreateFile(directory_.File(name)).Take();
  }
};

TEST_F(PlatformKeyTest, TheFileHas32BytesForItsOwnerAlone) {
  const std::string path = directory_.File("new");
  ASSERT_TRUE(PlatformKey::CreateFile(path).ok());
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 32);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST_F(PlatformKeyTest, TwoFilesHoldDifferentKeys) {
  EXPECT_NE(Fresh("a")->id(), Fresh("b")->id());
  EXPECT_NE(ContentOf(directory_.File("a")), ContentOf(directory_.File("b")));
}

TEST_F(PlatformKeyTest, AFileThatIsThereIsNotOverwritten) {
  const std::string path = FileOf(directory_, 5, 0600);
  const Bytes before = ContentOf(path);
  const auto created = PlatformKey::CreateFile(path);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().errno_value, EEXIST);
  EXPECT_TRUE(Says(created.error(), path));
  EXPECT_EQ(ContentOf(path), before);
}

TEST_F(PlatformKeyTest, ASymbolicLinkToNowhereIsNotFollowedWhenCreating) {
  const std::string path = directory_.File("link");
  ASSERT_EQ(symlink(directory_.File("target").c_str(), path.c_str()), 0);
  EXPECT_FALSE(PlatformKey::CreateFile(path).ok());
  EXPECT_NE(access(directory_.File("target").c_str(), F_OK), 0);
}

TEST_F(PlatformKeyTest, ADirectoryThatIsNotThereIsNamed) {
  const auto created = PlatformKey::CreateFile(directory_.File("none/key"));
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().errno_value, ENOENT);
  EXPECT_TRUE(Says(created.error(), directory_.File("none/key")));
}

TEST_F(PlatformKeyTest, LoadsWhatWasCreated) {
  const std::string path = directory_.File("fresh");
  const std::string id = Fresh()->id();
  EXPECT_EQ(PlatformKey::Load(path, false).Take()->id(), id);
}

TEST_F(PlatformKeyTest, TheIdIsTheStartOfAnHmac) {
  const std::string path = directory_.File("fresh");
  const std::string id = Fresh()->id();
  const Bytes key = ContentOf(path);
  const std::string text = "keyhold platform key id";
  uint8_t digest[32];
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest, nullptr);
  ASSERT_EQ(id.size(), 32U);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(std::stoi(id.substr(2 * i, 2), nullptr, 16), digest[i]);
  }
}

TEST_F(PlatformKeyTest, AFileThatIsTooShortIsRefusedWithBothSizes) {
  const auto loaded = PlatformKey::Load(FileOf(directory_, 31, 0600), false);
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(Says(loaded.error(), "31 bytes, expected 32"));
}

TEST_F(PlatformKeyTest, AFileThatIsTooLongIsRefused) {
  EXPECT_FALSE(PlatformKey::Load(FileOf(directory_, 33, 0600), false).ok());
}

TEST_F(PlatformKeyTest, AFileThatIsNotThereIsASystemError) {
  const auto loaded = PlatformKey::Load(directory_.File("none"), false);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().errno_value, ENOENT);
}

TEST_F(PlatformKeyTest, AFileThatTheGroupMayReadIsRefusedWithBothModes) {
  const std::string path = FileOf(directory_, 32, 0640);
  const auto loaded = PlatformKey::Load(path, false);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(Says(loaded.error(), path));
  EXPECT_TRUE(Says(loaded.error(), "0640"));
  EXPECT_TRUE(Says(loaded.error(), "expected 0600 or 0400"));
}

TEST_F(PlatformKeyTest, AFileThatOthersMayWriteIsRefused) {
  EXPECT_FALSE(PlatformKey::Load(FileOf(directory_, 32, 0602), false).ok());
}

TEST_F(PlatformKeyTest, AFileOfAnotherUserIsRefusedWithBothOwners) {
  // Continuous integration is root. Without root there is no way to have a file of mode 0600 that
  // belongs to somebody else and not to root, which is what the check is about.
  if (geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  const std::string path = FileOf(directory_, 32, 0600);
  ASSERT_EQ(chown(path.c_str(), 12345, 0), 0);
  const auto loaded = PlatformKey::Load(path, false);
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(Says(loaded.error(), "uid 12345, expected 0"));
}

TEST_F(PlatformKeyTest, ASymbolicLinkIsRefused) {
  const std::string target = FileOf(directory_, 32, 0600);
  const std::string link = directory_.File("link");
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
  const auto loaded = PlatformKey::Load(link, false);
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(Says(loaded.error(), "symbolic link"));
}

TEST_F(PlatformKeyTest, AFifoIsRefusedWithoutWaitingForAWriter) {
  const std::string path = directory_.File("fifo");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_FALSE(PlatformKey::Load(path, false).ok());
}

TEST_F(PlatformKeyTest, ADirectoryIsRefused) {
  EXPECT_FALSE(PlatformKey::Load(directory_.File("."), false).ok());
}

TEST_F(PlatformKeyTest, ACredentialMayHaveAnyMode) {
  EXPECT_TRUE(PlatformKey::Load(FileOf(directory_, 32, 0440), true).ok());
}

TEST_F(PlatformKeyTest, ACredentialMustHaveTheSizeAllTheSame) {
  EXPECT_FALSE(PlatformKey::Load(FileOf(directory_, 31, 0440), true).ok());
}

TEST_F(PlatformKeyTest, ASealedSetKeyOpensToTheSameKey) {
  const auto platform = Fresh();
  const auto key = SetKey::Generate().Take();
  const SealedSetKey sealed = platform->SealSetKey(*key, kAad).Take();
  EXPECT_TRUE(platform->OpenSetKey(sealed, kAad).Take()->Equals(*key));
}

TEST_F(PlatformKeyTest, AnotherPlatformKeyDoesNotOpenASetKey) {
  const auto key = SetKey::Generate().Take();
  const SealedSetKey sealed = Fresh("a")->SealSetKey(*key, kAad).Take();
  const auto opened = Fresh("b")->OpenSetKey(sealed, kAad);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::kUnseal);
  EXPECT_TRUE(Says(opened.error(), "corrupt or was tampered with, or another platform key"));
}

TEST_F(PlatformKeyTest, EveryChangedPartOfASealedSetKeyIsRefused) {
  const auto platform = Fresh();
  const auto key = SetKey::Generate().Take();
  const SealedSetKey sealed = platform->SealSetKey(*key, kAad).Take();
  SealedSetKey nonce = sealed;
  nonce.nonce[3] ^= 1;
  SealedSetKey ciphertext = sealed;
  ciphertext.ciphertext[31] ^= 0x80;
  SealedSetKey tag = sealed;
  tag.tag[0] ^= 1;
  for (const SealedSetKey& changed : {nonce, ciphertext, tag}) {
    EXPECT_EQ(platform->OpenSetKey(changed, kAad).error().code, ErrorCode::kUnseal);
  }
}

TEST_F(PlatformKeyTest, OtherAdditionalDataDoesNotOpenASetKey) {
  const auto platform = Fresh();
  const auto key = SetKey::Generate().Take();
  const SealedSetKey sealed = platform->SealSetKey(*key, kAad).Take();
  EXPECT_EQ(platform->OpenSetKey(sealed, {}).error().code, ErrorCode::kUnseal);
}

TEST_F(PlatformKeyTest, AWipedSetKeyIsNotSealed) {
  const auto key = SetKey::Generate().Take();
  key->Wipe();
  EXPECT_EQ(Fresh()->SealSetKey(*key, kAad).error().code, ErrorCode::kKeyWiped);
}

TEST_F(PlatformKeyTest, ASetKeyWhoseLeaseHasEndedIsNotSealed) {
  const auto key = SetKey::Generate().Take();
  key->BindLease(std::make_shared<Lease>());
  EXPECT_EQ(Fresh()->SealSetKey(*key, kAad).error().code, ErrorCode::kKeyWiped);
}

TEST_F(PlatformKeyTest, ItsDekOpensAgain) {
  const auto platform = Fresh();
  const NewDek dek = platform->CreateDek(kAad).Take();
  EXPECT_TRUE(platform->OpenDek(dek.sealed, kAad, dek.digest).ok());
}

TEST_F(PlatformKeyTest, AnotherPlatformKeyDoesNotOpenItsDek) {
  const NewDek dek = Fresh("a")->CreateDek(kAad).Take();
  EXPECT_EQ(Fresh("b")->OpenDek(dek.sealed, kAad, dek.digest).error().code, ErrorCode::kUnseal);
}

TEST_F(PlatformKeyTest, ADekWithTheDigestOfAnotherIsRefused) {
  const auto platform = Fresh();
  const NewDek dek = platform->CreateDek(kAad).Take();
  const NewDek other = platform->CreateDek(kAad).Take();
  EXPECT_EQ(platform->OpenDek(dek.sealed, kAad, other.digest).error().code, ErrorCode::kDigest);
}

}  // namespace
}  // namespace keyhold::test

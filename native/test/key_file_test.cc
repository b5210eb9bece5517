// SPDX-License-Identifier: Apache-2.0
#include "core/keys/key_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fstream>
#include <iterator>

#include "core/keys/set_key.h"
#include "test/plane_fixture.h"
#include "test/random_bytes.h"

namespace keyhold::test {
namespace {

const Bytes kAad = {'d', 'i', 's', 'k'};

Bytes ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

bool Exists(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0;
}

/// No file that this process writes may become longer, as if its file system were full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

class KeyFileTest : public ::testing::Test {
 protected:
  KeyFileTest() : key_(random_.Bytes(64)), path_(directory_.File("key")) {}

  Status Write(const std::string& path) { return WriteNewKeyFile("write " + path, path, key_); }

  /// Its errno; 0 for success.
  int ErrnoOfWrite(const std::string& path) {
    const Status written = Write(path);
    if (written) return 0;
    EXPECT_NE(written.error().message.find(path), std::string::npos);
    return written.error().errno_value;
  }

  testing::Random random_;
  TempDirectory directory_;
  Bytes key_;
  std::string path_;
};

TEST_F(KeyFileTest, HoldsTheKeyAndNothingElse) {
  ASSERT_TRUE(Write(path_).ok());
  EXPECT_EQ(ContentOf(path_), key_);
}

TEST_F(KeyFileTest, IsForItsOwnerAloneWhateverTheUmask) {
  const mode_t before = umask(0277);
  const Status written = Write(path_);
  umask(before);
  ASSERT_TRUE(written.ok());
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST_F(KeyFileTest, AFileThatIsThereIsNotOverwritten) {
  std::ofstream(path_) << "mine";
  EXPECT_EQ(ErrnoOfWrite(path_), EEXIST);
  EXPECT_EQ(ContentOf(path_), (Bytes{'m', 'i', 'n', 'e'}));
}

TEST_F(KeyFileTest, ASymbolicLinkToNowhereIsNotFollowed) {
  ASSERT_EQ(symlink(directory_.File("target").c_str(), path_.c_str()), 0);
  EXPECT_EQ(ErrnoOfWrite(path_), EEXIST);
  EXPECT_FALSE(Exists(directory_.File("target")));
}

TEST_F(KeyFileTest, ADirectoryIsNoPlaceForIt) {
  EXPECT_EQ(ErrnoOfWrite(directory_.File("")), EISDIR);
}

TEST_F(KeyFileTest, ADirectoryThatIsNotThereIsNotMade) {
  EXPECT_EQ(ErrnoOfWrite(directory_.File("none/key")), ENOENT);
  EXPECT_FALSE(Exists(directory_.File("none")));
}

TEST_F(KeyFileTest, HalfAKeyIsNotLeftBehind) {
  {
    const FileSizeLimit limit(32);
    EXPECT_EQ(ErrnoOfWrite(path_), EFBIG);
  }
  EXPECT_FALSE(Exists(path_));
}

class DekExportTest : public KeyFileTest {
 protected:
  DekExportTest() : set_key_(SetKey::Generate().Take()), dek_(set_key_->CreateDek(kAad).Take()) {}

  /// The code of the error; the file must not be there.
  ErrorCode Refusal(const Bytes& aad, const DekDigest& digest) {
    const Status done = set_key_->ExportDek(dek_.sealed, aad, digest, path_);
    EXPECT_FALSE(Exists(path_));
    return done ? ErrorCode::kState : done.error().code;
  }

  std::shared_ptr<SetKey> set_key_;
  NewDek dek_;
};

TEST_F(DekExportTest, TheFileHasTheDekThatTheDigestDescribes) {
  ASSERT_TRUE(set_key_->ExportDek(dek_.sealed, kAad, dek_.digest, path_).ok());
  const Bytes content = ContentOf(path_);
  EXPECT_EQ(content.size(), xts::kDekBytes);
  EXPECT_TRUE(CheckDekDigest(content, dek_.digest).ok());
}

TEST_F(DekExportTest, AWipedSetKeyExportsNothing) {
  set_key_->Wipe();
  EXPECT_EQ(Refusal(kAad, dek_.digest), ErrorCode::kKeyWiped);
}

TEST_F(DekExportTest, ASetKeyWhoseLeaseHasEndedExportsNothing) {
  auto lease = std::make_shared<Lease>();
  lease->End();
  set_key_->BindLease(lease);
  EXPECT_EQ(Refusal(kAad, dek_.digest), ErrorCode::kKeyWiped);
}

TEST_F(DekExportTest, ASealOfAnotherDiskExportsNothing) {
  EXPECT_EQ(Refusal({'o', 't', 'h', 'e', 'r'}, dek_.digest), ErrorCode::kUnseal);
}

TEST_F(DekExportTest, ADekThatTheHeaderDoesNotDescribeIsNotExported) {
  DekDigest digest = dek_.digest;
  digest.digest[0] ^= 1;
  EXPECT_EQ(Refusal(kAad, digest), ErrorCode::kDigest);
}

}  // namespace
}  // namespace keyhold::test

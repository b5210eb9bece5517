// SPDX-License-Identifier: Apache-2.0
// WRITEs that are worked off while their payload still arrives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint32_t kLength = 3U << 20;
constexpr uint64_t kOffset = 64 * 1024;
constexpr uint64_t kDataOffset = 8192;  // of DiskSetup
constexpr uint32_t kHalf = kLength / 2;

uint64_t InFlight(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.in_flight; });
}
uint64_t Encrypted(const Disk& disk) {
  return Sum(disk, [](const ShardCounters& c) -> const Counter& { return c.encrypted_bytes; });
}

DiskSetup SetupOf(bool in_memory, uint32_t sector_size_bytes = 512) {
  DiskSetup setup;
  setup.size_bytes = 8U << 20;
  setup.sector_size_bytes = sector_size_bytes;
  setup.in_memory = in_memory;
  return setup;
}

/// What the store holds of one sector of 512 bytes.
Bytes Stored(const std::string& path, uint64_t disk_offset) {
  const Bytes file = ReadFile(path);
  const auto at = file.begin() + static_cast<std::ptrdiff_t>(kDataOffset + disk_offset);
  return {at, at + 512};
}

/// On a store whose transfers wait (false), and on one where they finish at once.
class LongWrite : public ::testing::TestWithParam<bool> {
 protected:
  void Begin(DiskSetup setup, uint64_t offset = kOffset) {
    disk_ = plane_.AddDisk(std::move(setup));
    client_.emplace(plane_.Connect(disk_));
    client_->SendRequest(wire::kWrite, 0, offset, kLength, std::span(bytes_).first(kHalf));
  }
  void BeginAndLetHalfBeEncrypted(DiskSetup setup) {
    Begin(std::move(setup));
    ASSERT_TRUE(Eventually([&] { return Encrypted(*disk_) > 0; }));
  }
  void SendRest() { client_->SendRaw(std::span(bytes_).subspan(kHalf)); }

  TestPlane plane_;
  const Bytes bytes_ = Pattern(kLength, 1);
  std::shared_ptr<Disk> disk_;
  std::optional<Client> client_;
};
INSTANTIATE_TEST_SUITE_P(OnDiskAndInMemory, LongWrite, ::testing::Bool());

TEST_P(LongWrite, ArrivesWholeInPiecesOfAnySize) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (const uint32_t sector : {512U, 4096U}) {
    std::shared_ptr<Disk> disk = plane_.AddDisk(SetupOf(GetParam(), sector));
    Client client = plane_.Connect(disk);
    client.SendRequest(wire::kWrite, 0, kOffset, kLength);
    for (size_t sent = 0; sent < kLength;) {
      const size_t piece = std::min<size_t>(1 + random() % 200'000, kLength - sent);
      client.SendRaw(std::span(bytes_).subspan(sent, piece));
      sent += piece;
    }
    EXPECT_EQ(client.Receive()->error, 0U);
    EXPECT_TRUE(client.Read(kOffset, kLength) == bytes_);
  }
}

TEST_P(LongWrite, IsEncryptedByItsSectorsNumbersToTheLast) {
  Begin(SetupOf(GetParam()));
  SendRest();
  EXPECT_EQ(client_->Receive()->error, 0U);
  for (const uint64_t at : {uint64_t{0}, uint64_t{kHalf}, uint64_t{kLength - 512}}) {
    const Bytes expected = OracleEncrypt(std::span(bytes_).subspan(at, 512), (kOffset + at) / 512);
    EXPECT_TRUE(Stored(plane_.StorePath(*disk_), kOffset + at) == expected) << at;
  }
}

TEST_P(LongWrite, IsEncryptedWhileItsRestIsStillMissing) {
  Begin(SetupOf(GetParam()));
  EXPECT_TRUE(Eventually([&] { return Encrypted(*disk_) > kHalf - 32 * 1024; }));
  EXPECT_TRUE(client_->Silent(50)) << "answered too early";
}

TEST_P(LongWrite, KeepsItsRangeFromNobodyWhileItsRestIsMissing) {
  BeginAndLetHalfBeEncrypted(SetupOf(GetParam()));
  Client other = plane_.Connect(disk_);
  const Bytes theirs = Pattern(8192, 2);
  other.Write(kOffset + 100, theirs);
  EXPECT_TRUE(other.Read(kOffset + 100, 8192) == theirs);
}

TEST_P(LongWrite, WhoseClientLeavesInTheMiddleIsForgotten) {
  BeginAndLetHalfBeEncrypted(SetupOf(GetParam()));
  client_->Close();
  EXPECT_TRUE(Eventually([&] { return InFlight(*disk_) == 0; }));
  Client other = plane_.Connect(disk_);
  other.Write(kOffset, bytes_);
  EXPECT_TRUE(other.Read(kOffset, kLength) == bytes_);
}

TEST_P(LongWrite, ThatWasSuspendedInTheMiddleGoesOnWhereItWas) {
  BeginAndLetHalfBeEncrypted(SetupOf(GetParam()));
  EXPECT_EQ(Suspend(*disk_).parked_requests, 1U);
  std::thread rest([&] { SendRest(); });
  ASSERT_TRUE(Unlock(*disk_).ok());
  rest.join();
  EXPECT_EQ(client_->Receive()->error, 0U);
  EXPECT_TRUE(client_->Read(kOffset, kLength) == bytes_);
}

TEST_P(LongWrite, WhoseDiskGoesOfflineInTheMiddleIsRefusedAndTheConnectionStands) {
  BeginAndLetHalfBeEncrypted(SetupOf(GetParam()));
  GoOffline(*disk_);
  SendRest();
  EXPECT_EQ(client_->Receive()->error, wire::kShutdown);
  ASSERT_TRUE(Unlock(*disk_).ok());
  client_->Write(kOffset, bytes_);
  EXPECT_TRUE(client_->Read(kOffset, kLength) == bytes_);
}

TEST_P(LongWrite, ThatBeginsWithinASectorWaitsForItsEnd) {
  Begin(SetupOf(GetParam()), kOffset + 1);
  EXPECT_TRUE(client_->Silent(50));
  EXPECT_EQ(Encrypted(*disk_), 0U);
  SendRest();
  EXPECT_EQ(client_->Receive()->error, 0U);
  EXPECT_TRUE(client_->Read(kOffset + 1, kLength) == bytes_);
}

TEST(LongWriteInMemory, IsStoredWhileItsRestIsStillMissing) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(SetupOf(true));
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(kLength, 1);
  client.SendRequest(wire::kWrite, 0, kOffset, kLength, std::span(bytes).first(kHalf));
  const Bytes expected = OracleEncrypt(std::span(bytes).first(512), kOffset / 512);
  EXPECT_TRUE(Eventually([&] { return Stored(plane.StorePath(*disk), kOffset) == expected; }));
}

/// Fails what is to be written at `kBad` or beyond, as long as `failures` lasts.
FaultStore::NowHook FailingFrom(uint64_t bad, std::shared_ptr<std::atomic<int>> failures) {
  return [bad, failures](const StoreOp& op) {
    if (op.kind != StoreOp::Kind::kWrite) return 0;
    if (op.offset_bytes + op.length_bytes <= kDataOffset + bad) return 0;
    return failures->fetch_sub(1) > 0 ? ENOSPC : 0;
  };
}

Reply WriteInHalves(const std::shared_ptr<Disk>& disk, Client& client) {
  const Bytes bytes = Pattern(kLength, 1);
  client.SendRequest(wire::kWrite, 0, kOffset, kLength, std::span(bytes).first(kHalf));
  EXPECT_TRUE(Eventually([&] { return Encrypted(*disk) > kHalf - 32 * 1024; }));
  client.SendRaw(std::span(bytes).subspan(kHalf));
  std::optional<Reply> reply = client.Receive();
  EXPECT_TRUE(reply);
  return reply.value_or(Reply{});
}

TEST(LongWriteFails, WithTheErrorOfItsStoreAndTheConnectionStands) {
  TestPlane plane;
  DiskSetup setup = SetupOf(true);
  auto failures = std::make_shared<std::atomic<int>>(1'000'000);
  setup.now_hook = FailingFrom(kOffset + kHalf / 2, failures);
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, true);
  const Reply reply = WriteInHalves(disk, client);
  EXPECT_EQ(reply.error, wire::kNoSpc);
  ASSERT_TRUE(reply.error_offset);
  EXPECT_GE(*reply.error_offset, kOffset);
  EXPECT_LE(*reply.error_offset, kOffset + kHalf / 2);
  *failures = 0;
  client.Write(kOffset, Pattern(kLength, 2));
  EXPECT_TRUE(client.Read(kOffset, kLength) == Pattern(kLength, 2));
}

TEST(LongWriteFails, ButNotForAFailureThatPassed) {
  TestPlane plane;
  DiskSetup setup = SetupOf(true);
  setup.now_hook = FailingFrom(kOffset, std::make_shared<std::atomic<int>>(1));
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, true);
  EXPECT_EQ(WriteInHalves(disk, client).error, 0U);
  EXPECT_TRUE(client.Read(kOffset, kLength) == Pattern(kLength, 1));
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// What a client writes is what it reads, and what lies in the store is ciphertext.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <random>
#include <thread>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

struct Variant {
  uint32_t sector_size_bytes;
  bool holes;
  bool structured;
  bool in_memory;
};

class DataPath : public ::testing::TestWithParam<Variant> {
 protected:
  DiskSetup Setup() const {
    DiskSetup setup;
    setup.sector_size_bytes = GetParam().sector_size_bytes;
    setup.holes = GetParam().holes;
    setup.in_memory = GetParam().in_memory;
    return setup;
  }
};

INSTANTIATE_TEST_SUITE_P(All, DataPath,
                         ::testing::Values(Variant{512, true, false, false},
                                           Variant{512, false, true, true},
                                           Variant{4096, true, true, false},
                                           Variant{4096, false, false, true}));

uint32_t Seed() {
  const char* given = std::getenv("KEYHOLD_TEST_SEED");
  return given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                          : std::random_device()();
}

/// Without the hole rule a fresh store decrypts to noise: begin with known zeros.
void BeginWithZeros(Client& client, uint32_t size_bytes) {
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, size_bytes).error, 0U);
}

TEST_P(DataPath, RandomRequestsOfAnyAlignmentMatchAnArray) {
  const uint32_t seed = Seed();
  SCOPED_TRACE("KEYHOLD_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  TestPlane plane;
  DiskSetup setup = Setup();
  setup.size_bytes = 256 * 1024;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, GetParam().structured);
  const auto size = static_cast<uint32_t>(setup.size_bytes);
  Bytes model(size, 0);
  BeginWithZeros(client, size);
  for (int i = 0; i < 600; ++i) {
    const uint32_t offset = static_cast<uint32_t>(random()) % size;
    const uint32_t longest = random() % 4 == 0 ? size : 9000;
    uint32_t length = 1 + static_cast<uint32_t>(random()) % std::min(longest, size - offset);
    switch (random() % 4) {
      case 0: {
        const Bytes bytes = Pattern(length, static_cast<uint32_t>(random()));
        client.Write(offset, bytes, random() % 8 == 0 ? wire::kFua : 0);
        std::copy(bytes.begin(), bytes.end(), model.begin() + offset);
        break;
      }
      case 1:
        EXPECT_EQ(
            client.Do(wire::kWriteZeroes, random() % 2 ? wire::kNoHole : 0, offset, length).error,
            0U);
        std::fill_n(model.begin() + offset, length, uint8_t{0});
        break;
      default:
        ASSERT_EQ(client.Read(offset, length),
                  Bytes(model.begin() + offset, model.begin() + offset + length))
            << "offset " << offset << " length " << length;
    }
  }
  EXPECT_EQ(client.Read(0, size), model);
}

TEST_P(DataPath, StoreHoldsWhatOpenSslMakesOfThePlaintext) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk(Setup());
  Client client = plane.Connect(disk, GetParam().structured);
  const Bytes plain = Pattern(64 * 1024, 5);
  client.Write(128 * 1024, plain);
  const Bytes store = ReadFile(plane.StorePath(*disk));
  const uint32_t sector = GetParam().sector_size_bytes;
  for (size_t at = 0; at < plain.size(); at += sector) {
    const uint64_t disk_offset = 128 * 1024 + at;
    const Bytes expected = OracleEncrypt(std::span(plain).subspan(at, sector), disk_offset / 512);
    const auto begin = store.begin() + static_cast<std::ptrdiff_t>(8192 + disk_offset);
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), begin)) << "sector at " << disk_offset;
  }
}

TEST_P(DataPath, TheLongestUnalignedPayloadComesBack) {
  TestPlane plane;
  DiskSetup setup = Setup();
  setup.size_bytes = 40U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, GetParam().structured);
  const Bytes bytes = Pattern(wire::kPayloadBytesMax, 9);
  client.Write(777, bytes);
  EXPECT_TRUE(client.Read(777, wire::kPayloadBytesMax) == bytes);
}

TEST_P(DataPath, PayloadsInOneStreamWithHeadersBetweenThemEndUpWhereTheyBelong) {
  TestPlane plane;
  DiskSetup setup = Setup();
  setup.size_bytes = 4U << 20;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk, GetParam().structured);
  // Longer and shorter than what is received straight into a request's buffer.
  const std::vector<uint32_t> lengths = {300'000, 512, 131'072, 4096, 65'536, 1'000'000, 40'000};
  uint64_t end = 0;
  for (uint32_t length : lengths) {
    client.SendRequest(wire::kWrite, 0, end, length, Pattern(length, length));
    end += length;
  }
  for (size_t i = 0; i < lengths.size(); ++i) EXPECT_EQ(client.Receive()->error, 0U);
  uint64_t offset = 0;
  for (uint32_t length : lengths) {
    EXPECT_TRUE(client.Read(offset, length) == Pattern(length, length)) << length;
    offset += length;
  }
}

TEST(Holes, AFreshDiskReadsAsZeros) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  EXPECT_EQ(client.Read(100, 5000), Bytes(5000, 0));
}

TEST(Holes, TrimPunchesWholeSectorsOnly) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(4096, 3);
  client.Write(0, bytes);
  EXPECT_EQ(client.Do(wire::kTrim, 0, 100, 2000).error, 0U);
  Bytes expected = bytes;
  std::fill(expected.begin() + 512, expected.begin() + 2048, uint8_t{0});
  EXPECT_EQ(client.Read(0, 4096), expected);
}

TEST(Holes, WriteZeroesLeavesZeroBytesInTheStore) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  Client client = plane.Connect(disk);
  client.Write(0, Pattern(8192, 3));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, wire::kNoHole, 0, 4096).error, 0U);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 4096, 4096).error, 0U);
  const Bytes store = ReadFile(plane.StorePath(*disk));
  EXPECT_TRUE(std::all_of(store.begin() + 8192, store.begin() + 16384,
                          [](uint8_t byte) { return byte == 0; }));
}

TEST(Holes, AStoreThatCannotPunchGetsZeroBytes) {
  TestPlane plane;
  DiskSetup setup;
  setup.size_bytes = 5U << 20;
  setup.hook = [](const StoreOp& op) {
    FaultStore::Verdict verdict;
    if (op.kind == StoreOp::Kind::kPunch || op.kind == StoreOp::Kind::kZero) {
      verdict.errno_value = EOPNOTSUPP;
    }
    return verdict;
  };
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  client.Write(0, Pattern(5U << 20, 3));
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 10, (5U << 20) - 20).error, 0U);
  EXPECT_EQ(client.Read(10, (5U << 20) - 20), Bytes((5U << 20) - 20, 0));
  EXPECT_EQ(client.Do(wire::kTrim, 0, 0, 4096).error, 0U);
}

TEST(Holes, TrimOfADiskWithoutHolesKeepsItsData) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  const Bytes bytes = Pattern(4096, 3);
  client.Write(0, bytes);
  EXPECT_EQ(client.Do(wire::kTrim, 0, 0, 4096).error, 0U);
  EXPECT_EQ(client.Read(0, 4096), bytes);
}

TEST(Holes, ZeroesOnADiskWithoutHolesAreCiphertext) {
  TestPlane plane;
  DiskSetup setup;
  setup.holes = false;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  Client client = plane.Connect(disk);
  EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, 4096).error, 0U);
  const Bytes store = ReadFile(plane.StorePath(*disk));
  const Bytes expected = OracleEncrypt(Bytes(512, 0), 3);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), store.begin() + 8192 + 3 * 512));
}

TEST(SectorSharing, TwoShardsWritingBytesOfOneSectorLoseNothing) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  constexpr int kRounds = 300;
  auto hammer = [&](int parity) {
    Client client = plane.Connect(disk);
    for (int round = 1; round <= kRounds; ++round) {
      // Every other byte of the sector, each as a request of its own, eight in flight.
      for (int i = 0; i < 8; ++i) {
        const Bytes one = {static_cast<uint8_t>(round)};
        client.SendRequest(wire::kWrite, 0, static_cast<uint64_t>(2 * i + parity), 1, one);
      }
      for (int i = 0; i < 8; ++i) ASSERT_EQ(client.Receive()->error, 0U);
      const Bytes sector = client.Read(0, 16);
      for (int i = 0; i < 8; ++i) {
        ASSERT_EQ(sector[static_cast<size_t>(2 * i + parity)], static_cast<uint8_t>(round));
      }
    }
  };
  std::thread other([&] { hammer(1); });
  hammer(0);
  other.join();
  EXPECT_TRUE(Eventually([&] { return plane.plane().Connections().empty(); }));
}

TEST(SectorSharing, FullWritesAndTrimsNeverTearASector) {
  TestPlane plane(2);
  std::shared_ptr<Disk> disk = plane.AddDisk();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    Client client = plane.Connect(disk);
    for (uint8_t round = 1; !stop; ++round) {
      client.Write(0, Bytes(512, static_cast<uint8_t>(round | 1)));
      EXPECT_EQ(client.Do(wire::kWriteZeroes, 0, 0, 512).error, 0U);
    }
  });
  Client reader = plane.Connect(disk);
  for (int i = 0; i < 2000; ++i) {
    const Bytes sector = reader.Read(0, 512);
    ASSERT_TRUE(
        std::all_of(sector.begin(), sector.end(), [&](uint8_t byte) { return byte == sector[0]; }));
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace keyhold::test

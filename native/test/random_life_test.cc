// SPDX-License-Identifier: Apache-2.0
// Clients that do anything at any time, while the disk's key comes and goes, clients are thrown out
// and shards die. Afterwards everything has to be back where it began.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <random>
#include <thread>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr auto kDuration = std::chrono::seconds(3);
constexpr uint32_t kDiskBytes = 4U << 20;

/// Sends requests of every kind without looking at replies, then leaves in one of several ways.
void MisbehaveOnce(TestPlane& plane, const std::shared_ptr<Disk>& disk, std::mt19937& random) {
  wire::Agreed agreed{static_cast<wire::Replies>(random() % 3), {}};
  if (random() % 2 == 0) agreed.allocation_context_id = 1;
  Client client = plane.Connect(disk, agreed);
  const uint32_t requests = static_cast<uint32_t>(random()) % 60;
  for (uint32_t i = 0; i < requests; ++i) {
    const auto type = static_cast<uint16_t>(random() % 9);
    const auto offset = static_cast<uint32_t>(random()) % kDiskBytes;
    const auto length = static_cast<uint32_t>(random()) % (random() % 8 == 0 ? 2'000'000 : 9000);
    if (type == wire::kDisconnect && random() % 4 != 0) continue;
    Bytes payload;
    if (type == wire::kWrite) payload = Bytes(length, 0x77);
    // The last payload may stay incomplete.
    if (i + 1 == requests) payload.resize(payload.size() / 2);
    timeval limit{0, 50'000};
    ::setsockopt(client.fd(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    const auto flags = static_cast<uint16_t>(random() % 4 == 0 ? 1U << random() % 5 : 0);
    client.SendRequest(type, flags, offset, length, payload);
  }
  if (random() % 2 == 0) ::shutdown(client.fd(), SHUT_WR);
  if (random() % 2 == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 30));
  }
}

void Meddle(TestPlane& plane, Disk& disk, std::mt19937& random) {
  switch (random() % 8) {
    case 0:
    case 1:
      (void)disk.Suspend({});
      break;
    case 2:
      (void)disk.GoOffline({});
      break;
    case 3:
      (void)disk.DisconnectClients({});
      break;
    case 4: {
      const uint32_t dead = static_cast<uint32_t>(random()) % 2;
      const uint32_t running = plane.plane().running_shards();
      plane.plane().FailShardForTest(dead);
      if (!Eventually([&] { return plane.plane().running_shards() < running; })) return;
      plane.RunShardAgain(dead);
      EXPECT_TRUE(Eventually([&] { return plane.plane().running_shards() == 2; }));
      break;
    }
    default:
      (void)Unlock(disk);
  }
}

TEST(RandomLife, LeavesNothingBehind) {
  const char* given = std::getenv("KEYHOLD_TEST_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(std::strtoul(given, nullptr, 10))
                                         : std::random_device()();
  SCOPED_TRACE("KEYHOLD_TEST_SEED=" + std::to_string(seed));
  std::mt19937 random(seed);
  TestPlane plane(2);
  DiskSetup setup;
  setup.size_bytes = kDiskBytes;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] {
      std::mt19937 mine(seed + i);
      while (!stop) MisbehaveOnce(plane, disk, mine);
    });
  }
  const auto end = std::chrono::steady_clock::now() + kDuration;
  while (std::chrono::steady_clock::now() < end) {
    Meddle(plane, *disk, random);
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 20));
  }
  stop = true;
  for (std::thread& client : clients) client.join();

  const OfflineReceipt receipt = GoOffline(*disk);
  EXPECT_TRUE(receipt.flushed_ns) << receipt.flush_error;
  EXPECT_TRUE(Eventually([&] { return plane.plane().Connections().empty(); }));
  const auto gauges = [](const ShardCounters& c) -> const Counter& { return c.in_flight; };
  EXPECT_TRUE(Eventually([&] { return Sum(*disk, gauges) == 0; }));
  EXPECT_EQ(Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.parked; }), 0U);
  EXPECT_EQ(Sum(*disk, [](const ShardCounters& c) -> const Counter& { return c.connections; }), 0U);
  ASSERT_TRUE(Unlock(*disk).ok());
  Client client = plane.Connect(disk);
  client.Write(0, Pattern(kDiskBytes, 1));
  EXPECT_TRUE(client.Read(0, kDiskBytes) == Pattern(kDiskBytes, 1));
}

}  // namespace
}  // namespace keyhold::test

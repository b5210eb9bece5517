// SPDX-License-Identifier: Apache-2.0
// Requests on several connections while the key is wiped and comes back, over and over. Its worth
// is under ThreadSanitizer; the data check holds in every build.
#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <thread>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr uint64_t kAreaBytes = 256 * 1024;  // each client has one of its own
constexpr auto kDuration = std::chrono::seconds(3);
constexpr uint32_t kCyclesMin = 20;  // a busy machine takes longer for them

/// Writes and reads at random in its own area. A refused write leaves the old bytes, the new ones,
/// or a mixture of sectors: so that range is written again before it is compared.
void Work(TestPlane& plane, const std::shared_ptr<Disk>& disk, uint32_t index, bool may_refuse,
          const std::atomic<bool>& stop) {
  // One with simple replies, one with structured, two with extended headers.
  const auto replies = static_cast<wire::Replies>(std::min(index, 2U));
  Client client = plane.Connect(disk, wire::Agreed{replies, 1});
  std::mt19937 random(index);
  Bytes model(kAreaBytes, 0);
  const uint64_t base = index * kAreaBytes;
  while (!stop) {
    const uint64_t offset = random() % (kAreaBytes - 1);
    const auto length = static_cast<uint32_t>(
        1 + random() % std::min<uint64_t>(kAreaBytes - offset, random() % 8 == 0 ? 200'000 : 6000));
    const auto begin = model.begin() + static_cast<std::ptrdiff_t>(offset);
    if (random() % 2 == 0) {
      const Bytes bytes = Pattern(length, static_cast<uint32_t>(random()));
      uint32_t error = 1;
      while (error != 0) {
        error = client.Do(wire::kWrite, 0, base + offset, length, bytes).error;
        ASSERT_TRUE(error == 0 || (may_refuse && error == wire::kShutdown)) << error;
        if (stop && error != 0) return;
      }
      std::copy(bytes.begin(), bytes.end(), begin);
    } else if (random() % 4 == 0) {
      // Back to a hole, so that there are always replies of several chunks.
      uint32_t error = 1;
      while (error != 0) {
        error = client.Do(wire::kWriteZeroes, 0, base + offset, length).error;
        ASSERT_TRUE(error == 0 || (may_refuse && error == wire::kShutdown)) << error;
        if (stop && error != 0) return;
      }
      std::fill_n(begin, length, uint8_t{0});
    } else if (replies != wire::Replies::kSimple && random() % 4 == 0) {
      const Reply reply = client.Do(wire::kBlockStatus, 0, base + offset, length);
      ASSERT_TRUE(reply.error == 0 || (may_refuse && reply.error == wire::kShutdown));
      uint64_t at = 0;
      for (const StatusExtent& extent : reply.extents) {
        const auto from = begin + static_cast<ptrdiff_t>(at);
        if (extent.flags != 0) {
          ASSERT_TRUE(std::all_of(from, from + static_cast<ptrdiff_t>(extent.length),
                                  [](uint8_t byte) { return byte == 0; }));
        }
        at += extent.length;
      }
    } else {
      const Reply reply = client.Do(wire::kRead, 0, base + offset, length);
      if (reply.error == wire::kShutdown && may_refuse) continue;
      ASSERT_EQ(reply.error, 0U);
      ASSERT_TRUE(std::equal(reply.data.begin(), reply.data.end(), begin));
    }
  }
}

void Race(bool offline, const std::function<void(Disk&)>& revoke) {
  TestPlane plane(2);
  DiskSetup setup;
  setup.size_bytes = 4 * kAreaBytes;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup);
  std::atomic<bool> stop{false};
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] { Work(plane, disk, i, offline, stop); });
  }
  const auto end = std::chrono::steady_clock::now() + kDuration;
  uint32_t cycles = 0;
  while (cycles < kCyclesMin || std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(cycles % 7));
    revoke(*disk);
    EXPECT_FALSE(disk->guard().present());
    ASSERT_TRUE(Unlock(*disk).ok());
    ++cycles;
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

TEST(RevocationRace, SuspendAndResumeUnderLoadLoseNothingAndFailNothing) {
  Race(false, [](Disk& disk) { Suspend(disk); });
}

TEST(RevocationRace, AResumeMayOvertakeTheSuspension) {
  Race(false, [](Disk& disk) { ASSERT_TRUE(disk.Suspend({}).ok()); });
}

TEST(RevocationRace, OfflineAndBackUnderLoadLosesNothingThatWasAcknowledged) {
  Race(true, [](Disk& disk) { GoOffline(disk); });
}

}  // namespace
}  // namespace keyhold::test

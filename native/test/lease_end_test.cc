// SPDX-License-Identifier: Apache-2.0
// The lease is enforced by the shards' timers and the key guard, without any call from the control
// plane.
#include <gtest/gtest.h>

#include <thread>

#include "core/keys/set_key.h"
#include "core/shard/set_key_reaper.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

TEST(LeaseEnd, SuspendsTheDiskWithoutAnyControlCall) {
  TestPlane plane(2);
  DiskSetup setup;
  setup.lease_enforced = true;
  setup.unlocked = false;
  auto lease = std::make_shared<Lease>();
  std::shared_ptr<Disk> disk = plane.AddDisk(setup, lease);
  lease->Renew(BootTimeNs(), 300'000'000);
  ASSERT_TRUE(Unlock(*disk).ok());
  Client client = plane.Connect(disk);
  const std::optional<LeaseEnded> ended = plane.WaitFor<LeaseEnded>();
  ASSERT_TRUE(ended);
  EXPECT_GE(ended->key_wiped_ns, lease->deadline_ns());
  EXPECT_LT(ended->key_wiped_ns, lease->deadline_ns() + 200'000'000);
  EXPECT_FALSE(disk->guard().present());
  EXPECT_EQ(disk->state(), DiskState::kSuspended);
  client.SendRequest(wire::kRead, 0, 0, 4096);
  EXPECT_TRUE(client.Silent(100));
  lease->Renew(BootTimeNs(), 60'000'000'000);
  ASSERT_TRUE(Unlock(*disk).ok());
  EXPECT_EQ(client.Receive()->data.size(), 4096U);
}

TEST(LeaseEnd, ABusyClientIsNotServedOneRequestLonger) {
  TestPlane plane;
  DiskSetup setup;
  setup.lease_enforced = true;
  setup.unlocked = false;
  auto lease = std::make_shared<Lease>();
  std::shared_ptr<Disk> disk = plane.AddDisk(setup, lease);
  lease->Renew(BootTimeNs(), 200'000'000);
  ASSERT_TRUE(Unlock(*disk).ok());
  Client client = plane.Connect(disk);
  int64_t last_ns = 0;
  do {
    client.SendRequest(wire::kRead, 0, 0, 4096);
    if (client.Silent(300)) break;
    EXPECT_EQ(client.Receive()->error, 0U);
    last_ns = BootTimeNs();
  } while (last_ns < lease->deadline_ns() + 1'000'000'000);
  // The reply may have been on its way to us when the lease ended.
  EXPECT_LT(last_ns, lease->deadline_ns() + 40'000'000);
  EXPECT_TRUE(plane.WaitFor<LeaseEnded>());
}

TEST(LeaseEnd, AnUnlockWithoutALeaseIsRefused) {
  TestPlane plane;
  DiskSetup setup;
  setup.lease_enforced = true;
  setup.unlocked = false;
  std::shared_ptr<Disk> disk = plane.AddDisk(setup, std::make_shared<Lease>());
  const Status status = Unlock(*disk);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kKeyWiped);
  EXPECT_EQ(disk->state(), DiskState::kLocked);
}

TEST(LeaseEnd, WithoutEnforcementADiskServesOn) {
  TestPlane plane;
  auto lease = std::make_shared<Lease>();
  std::shared_ptr<Disk> disk = plane.AddDisk({}, lease);
  Client client = plane.Connect(disk);
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
}

TEST(LeaseEnd, WipesRegisteredSetKeysToo) {
  TestPlane plane;
  std::shared_ptr<SetKey> key = SetKey::Generate().Take();
  auto lease = std::make_shared<Lease>();
  lease->Renew(BootTimeNs(), 100'000'000);
  key->BindLease(lease);
  SetKeyReaper::Register(key);
  EXPECT_FALSE(key->wiped());
  EXPECT_TRUE(Eventually([&] { return key->wiped(); }));
  EXPECT_GE(BootTimeNs(), lease->deadline_ns());
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
// The processor time that a shard tells of.
#include <gtest/gtest.h>

#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

TEST(ShardCpuTime, GrowsWithWorkAndOutlivesTheShard) {
  TestPlane plane;
  std::shared_ptr<Disk> disk = plane.AddDisk();
  const auto used_ns = [&] { return plane.plane().ShardCpuNs().at(0); };
  EXPECT_TRUE(Eventually([&] { return used_ns() > 0; }));
  const uint64_t before_ns = used_ns();
  Client client = plane.Connect(disk);
  EXPECT_EQ(client.Read(0, 512).size(), 512U);
  EXPECT_TRUE(Eventually([&] { return used_ns() > before_ns; }));
  plane.plane().FailShardForTest(0);
  ASSERT_TRUE(plane.WaitFor<ShardDied>());
  ASSERT_TRUE(Eventually([&] { return plane.plane().running_shards() == 0; }));
  const uint64_t dead_ns = used_ns();
  EXPECT_GT(dead_ns, before_ns);
  plane.RunShardAgain(0);
  EXPECT_TRUE(Eventually([&] { return used_ns() > dead_ns; }));
}

}  // namespace
}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/busy_poll.h"

#include <gtest/gtest.h>

namespace keyhold::test {
namespace {

constexpr int64_t kMax = 100'000;

void SleepShortly(BusyPoll& poll, int times) {
  for (int i = 0; i < times; ++i) poll.Slept(kMax);
}

TEST(BusyPoll, DoesNotSpinBeforeItHasPaidOff) {
  BusyPoll poll(kMax);
  EXPECT_FALSE(poll.ShouldSpin());
  SleepShortly(poll, BusyPoll::kCreditToSpin - 1);
  EXPECT_FALSE(poll.ShouldSpin());
}

TEST(BusyPoll, SpinsAfterShortSleepsInARow) {
  BusyPoll poll(kMax);
  SleepShortly(poll, BusyPoll::kCreditToSpin);
  EXPECT_TRUE(poll.ShouldSpin());
}

TEST(BusyPoll, NeverSpinsWhereItIsForbidden) {
  BusyPoll poll(0);
  for (int i = 0; i < 100; ++i) poll.Slept(0);
  EXPECT_FALSE(poll.ShouldSpin());
}

TEST(BusyPoll, NeverSpinsBetweenRequestsThatAreFarApart) {
  BusyPoll poll(kMax);
  for (int i = 0; i < 100; ++i) {
    poll.Slept(10 * kMax);
    EXPECT_FALSE(poll.ShouldSpin());
  }
}

TEST(BusyPoll, OneLongSleepAmongShortOnesTakesItsCredit) {
  BusyPoll poll(kMax);
  SleepShortly(poll, BusyPoll::kCreditToSpin - 1);
  poll.Slept(10 * kMax);
  poll.Slept(kMax);
  EXPECT_FALSE(poll.ShouldSpin());
}

TEST(BusyPoll, TwoMissesInARowEndTheSpinning) {
  BusyPoll poll(kMax);
  SleepShortly(poll, 100);
  poll.Spun(false);
  EXPECT_TRUE(poll.ShouldSpin());
  poll.Spun(false);
  EXPECT_FALSE(poll.ShouldSpin());
}

TEST(BusyPoll, GoesOnWhileNewsComes) {
  BusyPoll poll(kMax);
  SleepShortly(poll, BusyPoll::kCreditToSpin);
  for (int i = 0; i < 1000; ++i) {
    poll.Spun(true);
    EXPECT_TRUE(poll.ShouldSpin());
  }
}

}  // namespace
}  // namespace keyhold::test

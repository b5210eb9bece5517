// SPDX-License-Identifier: Apache-2.0
// How the operations of a Ring are given up, by whichever engine. (ring_test names the engines.)
#include <sys/eventfd.h>

#include <functional>
#include <vector>

#include "test/ring_fixture.h"

namespace keyhold::test {
namespace {

TEST_P(EveryRing, WhateverWaitsCanBeCancelled) {
  FillNear();
  const UniqueFd listener = ListenOnLoopback();
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  std::string text(8, 0);
  uint64_t count = 0;
  __kernel_timespec interval{3600, 0};
  iovec piece{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  const int fd = sockets_.near.get();
  const std::vector<std::function<void()>> begins = {
      [&] { ring_->Receive(op_, fd, BytesOf(text)); },
      [&] { ring_->ReceiveMessage(op_, fd, &message); },
      [&] { ring_->Send(op_, fd, BytesOf(text)); },
      [&] { ring_->SendMessage(op_, fd, &message); },
      [&] { ring_->Accept(op_, listener.get()); },
      [&] { ring_->ReadEvent(op_, event.get(), &count); },
      [&] { ring_->Timeout(op_, &interval); },
  };
  for (size_t i = 0; i < begins.size(); ++i) {
    for (const bool begun : {false, true}) {
      begins[i]();
      if (begun) Turn(*ring_);
      ring_->Cancel(op_);
      EXPECT_TRUE(op_.pending()) << "it completes in a Dispatch";
      EXPECT_EQ(Await(*ring_, op_), -ECANCELED) << i;
    }
  }
}

TEST_P(EveryRing, CancellingOneDirectionLeavesTheOther) {
  FillNear();
  std::string in(8, 0);
  std::string out = "z";
  RecordingOp sending;
  ring_->Receive(op_, sockets_.near.get(), BytesOf(in));
  ring_->Send(sending, sockets_.near.get(), BytesOf(out));
  Turn(*ring_);
  ring_->Cancel(sending);
  EXPECT_EQ(Await(*ring_, sending), -ECANCELED);
  EXPECT_TRUE(op_.pending());
  SendFromFar("in");
  EXPECT_EQ(Await(*ring_, op_), 2);
}

TEST_P(EveryRing, CancellingWhatIsNotPendingDoesNothing) {
  ring_->Cancel(op_);
  ring_->Nop(op_);
  EXPECT_EQ(Await(*ring_, op_), 0);
  ring_->Cancel(op_);
  EXPECT_FALSE(op_.pending());
}

TEST_P(EveryRing, ACancelledReceiveLosesNoBytes) {
  for (int round = 0; round < 50; ++round) {
    std::string text(8, 0);
    ring_->Receive(op_, sockets_.near.get(), BytesOf(text));
    if (round % 2 == 0) Turn(*ring_);
    SendFromFar("12345");
    ring_->Cancel(op_);
    int32_t received = Await(*ring_, op_);
    if (received == -ECANCELED) received = ReceiveText(text);
    ASSERT_EQ(received, 5);
  }
}

TEST_P(EveryRing, CancelAllReapsEverythingAndCallsNobodyDone) {
  const UniqueFd listener = ListenOnLoopback();
  const UniqueFd client = ConnectTo(listener);
  const UniqueFd file = TemporaryFile();
  std::string text(8, 0);
  __kernel_timespec interval{3600, 0};
  std::array<RecordingOp, 5> ops;
  ring_->Receive(ops[0], sockets_.near.get(), BytesOf(text));
  ring_->Timeout(ops[1], &interval);
  ring_->DataSync(ops[2], file.get());
  ring_->Accept(ops[3], listener.get());
  ASSERT_TRUE(ring_->SubmitAndWait().ok());
  ring_->Nop(ops[4]);
  EXPECT_TRUE(ring_->CancelAll(5'000'000'000));
  EXPECT_EQ(ring_->pending_count(), 0U);
  for (const RecordingOp& op : ops) {
    EXPECT_FALSE(op.done);
    EXPECT_TRUE(op.reaped);
  }
  EXPECT_EQ(ops[0].reaped, -ECANCELED);
  if (*ops[3].reaped >= 0) ::close(*ops[3].reaped);
}

}  // namespace
}  // namespace keyhold::test

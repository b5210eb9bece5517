// SPDX-License-Identifier: Apache-2.0
// What a Ring promises, by whichever engine.
#include <linux/falloc.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "test/ring_fixture.h"

namespace keyhold::test {
namespace {

TEST_P(EveryRing, NopCompletesWithZero) {
  ring_->Nop(op_);
  EXPECT_TRUE(op_.pending());
  EXPECT_EQ(Await(*ring_, op_), 0);
  EXPECT_FALSE(op_.pending());
  EXPECT_EQ(ring_->pending_count(), 0U);
}

TEST_P(EveryRing, NothingCompletesBeforeDispatch) {
  SendFromFar("x");
  std::string text(8, 0);
  ring_->Receive(op_, sockets_.near.get(), BytesOf(text));
  ASSERT_TRUE(ring_->SubmitAndWait().ok());
  EXPECT_FALSE(op_.done);
  ring_->Dispatch();
  EXPECT_EQ(op_.done, 1);
}

TEST_P(EveryRing, SubmitDoesNotWaitForWhatHasNotCome) {
  std::string text(8, 0);
  ring_->Receive(op_, sockets_.near.get(), BytesOf(text));
  ASSERT_TRUE(ring_->Submit().ok());
  ring_->Dispatch();
  EXPECT_TRUE(op_.pending());
  EXPECT_FALSE(ring_->HasNews());
  SendFromFar("x");
  EXPECT_EQ(Await(*ring_, op_), 1);
}

TEST_P(EveryRing, NewsIsSeenWithoutWaitingAndSubmitBringsIt) {
  std::string text(8, 0);
  ring_->Receive(op_, sockets_.near.get(), BytesOf(text));
  ASSERT_TRUE(ring_->Submit().ok());
  SendFromFar("x");
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (!ring_->HasNews() && std::chrono::steady_clock::now() < until) {
  }
  ASSERT_TRUE(ring_->HasNews());
  ASSERT_TRUE(ring_->Submit().ok());
  ring_->Dispatch();
  EXPECT_EQ(op_.done, 1);
}

TEST_P(EveryRing, TimeoutEndsWithEtimeAndNotTooEarly) {
  __kernel_timespec interval{0, 20'000'000};
  const auto begin = std::chrono::steady_clock::now();
  ring_->Timeout(op_, &interval);
  EXPECT_EQ(Await(*ring_, op_), -ETIME);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(20));
}

TEST_P(EveryRing, TheEarlierOfTwoTimeoutsEndsFirst) {
  __kernel_timespec late{60, 0};
  __kernel_timespec early{0, 1'000'000};
  RecordingOp other;
  ring_->Timeout(other, &late);
  ring_->Timeout(op_, &early);
  EXPECT_EQ(Await(*ring_, op_), -ETIME);
  EXPECT_TRUE(other.pending());
  ring_->Cancel(other);
  EXPECT_EQ(Await(*ring_, other), -ECANCELED);
}

TEST_P(EveryRing, ReceiveTakesWhatIsThere) {
  SendFromFar("hello");
  std::string text(64, 0);
  ASSERT_EQ(ReceiveText(text), 5);
  EXPECT_EQ(text.substr(0, 5), "hello");
}

TEST_P(EveryRing, ReceiveWaitsForTheFirstByte) {
  std::string text(64, 0);
  ring_->Receive(op_, sockets_.near.get(), BytesOf(text));
  Turn(*ring_);
  EXPECT_TRUE(op_.pending());
  SendFromFar("late");
  EXPECT_EQ(Await(*ring_, op_), 4);
}

TEST_P(EveryRing, ReceiveOfALeftPeerIsZero) {
  std::string text(64, 0);
  sockets_.far.Reset();
  EXPECT_EQ(ReceiveText(text), 0);
}

TEST_P(EveryRing, AWaitingReceiveEndsWithZeroWhenThePeerLeavesOrTheSocketIsShut) {
  for (const bool shut : {false, true}) {
    SocketPair sockets;
    std::string text(64, 0);
    ring_->Receive(op_, sockets.near.get(), BytesOf(text));
    Turn(*ring_);
    if (shut) {
      ::shutdown(sockets.near.get(), SHUT_RDWR);
    } else {
      sockets.far.Reset();
    }
    EXPECT_EQ(Await(*ring_, op_), 0);
  }
}

TEST_P(EveryRing, ReceiveOnNoSocketIsAnErrorNotAWait) {
  std::string text(8, 0);
  UniqueFd file = TemporaryFile();
  ring_->Receive(op_, file.get(), BytesOf(text));
  EXPECT_EQ(Await(*ring_, op_), -ENOTSOCK);
  ring_->Receive(op_, -1, BytesOf(text));
  EXPECT_EQ(Await(*ring_, op_), -EBADF);
}

TEST_P(EveryRing, SendToALeftPeerIsEpipeAndNoSignal) {
  std::string text = "x";
  sockets_.far.Reset();
  ring_->Send(op_, sockets_.near.get(), BytesOf(text));
  EXPECT_EQ(Await(*ring_, op_), -EPIPE);
}

TEST_P(EveryRing, AWaitingSendIsEpipeWhenThePeerLeaves) {
  FillNear();
  std::string text = "x";
  ring_->Send(op_, sockets_.near.get(), BytesOf(text));
  Turn(*ring_);
  ASSERT_TRUE(op_.pending());
  sockets_.far.Reset();
  const int32_t result = Await(*ring_, op_);
  EXPECT_TRUE(result == -EPIPE || result == -ECONNRESET) << result;
}

TEST_P(EveryRing, SendTellsHowMuchTheSocketTook) {
  std::string text(8 << 20, 's');
  ring_->Send(op_, sockets_.near.get(), BytesOf(text));
  const int32_t sent = Await(*ring_, op_);
  EXPECT_GT(sent, 0);
  EXPECT_LT(sent, int32_t(text.size()));
}

TEST_P(EveryRing, AFullSocketTakesMoreWhenItsPeerReads) {
  FillNear();
  std::string text = "last";
  ring_->Send(op_, sockets_.near.get(), BytesOf(text));
  Turn(*ring_);
  EXPECT_TRUE(op_.pending());
  std::string sink(1 << 20, 0);
  while (::recv(sockets_.far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(Await(*ring_, op_), 4);
}

TEST_P(EveryRing, MessagesAreGatheredAndScattered) {
  std::string a = "abc";
  std::string b = "defg";
  std::array<iovec, 2> from{{{a.data(), a.size()}, {b.data(), b.size()}}};
  msghdr message{};
  message.msg_iov = from.data();
  message.msg_iovlen = from.size();
  ring_->SendMessage(op_, sockets_.far.get(), &message);
  ASSERT_EQ(Await(*ring_, op_), 7);
  std::string c(2, 0);
  std::string d(8, 0);
  std::array<iovec, 2> into{{{c.data(), c.size()}, {d.data(), d.size()}}};
  message.msg_iov = into.data();
  ring_->ReceiveMessage(op_, sockets_.near.get(), &message);
  ASSERT_EQ(Await(*ring_, op_), 7);
  EXPECT_EQ(c + d.substr(0, 5), "abcdefg");
}

TEST_P(EveryRing, BothDirectionsOfASocketWaitSideBySide) {
  FillNear();
  std::string in(8, 0);
  std::string out = "y";
  RecordingOp sending;
  ring_->Receive(op_, sockets_.near.get(), BytesOf(in));
  ring_->Send(sending, sockets_.near.get(), BytesOf(out));
  Turn(*ring_);
  SendFromFar("in");
  EXPECT_EQ(Await(*ring_, op_), 2);
  EXPECT_TRUE(sending.pending()) << "its peer has not read";
  std::string sink(1 << 20, 0);
  while (::recv(sockets_.far.get(), sink.data(), sink.size(), MSG_DONTWAIT) > 0) {
  }
  EXPECT_EQ(Await(*ring_, sending), 1);
}

TEST_P(EveryRing, ANewSocketUnderAnOldNumberIsWaitedFor) {
  std::string text(8, 0);
  for (int round = 0; round < 3; ++round) {
    SocketPair sockets;
    // Keeps the old socket alive, and with it what the kernel knows of its number.
    const UniqueFd duplicate(::dup(sockets.near.get()));
    ring_->Receive(op_, sockets.near.get(), BytesOf(text));
    Turn(*ring_);
    ASSERT_EQ(::send(sockets.far.get(), "12", 2, 0), 2);
    ASSERT_EQ(Await(*ring_, op_), 2);
    const int number = sockets.near.get();
    SocketPair fresh;
    ASSERT_EQ(::dup2(fresh.near.get(), number), number);
    ring_->Receive(op_, number, BytesOf(text));
    Turn(*ring_);
    ASSERT_EQ(::send(fresh.far.get(), "345", 3, 0), 3);
    EXPECT_EQ(Await(*ring_, op_), 3);
  }
}

TEST_P(EveryRing, AcceptWaitsAndGivesACloseOnExecSocket) {
  const UniqueFd listener = ListenOnLoopback();
  ring_->Accept(op_, listener.get());
  Turn(*ring_);
  EXPECT_TRUE(op_.pending());
  const UniqueFd client = ConnectTo(listener);
  const UniqueFd accepted(Await(*ring_, op_));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(::fcntl(accepted.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(listener.get(), F_GETFL) & O_NONBLOCK, 0) << "others may hold it, too";
}

TEST_P(EveryRing, AcceptOnAShutListenerIsEinval) {
  const UniqueFd listener = ListenOnLoopback();
  ring_->Accept(op_, listener.get());
  Turn(*ring_);
  ::shutdown(listener.get(), SHUT_RDWR);
  EXPECT_EQ(Await(*ring_, op_), -EINVAL);
}

TEST_P(EveryRing, ReadEventTakesTheCount) {
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  uint64_t count = 0;
  ring_->ReadEvent(op_, event.get(), &count);
  Turn(*ring_);
  EXPECT_TRUE(op_.pending());
  ASSERT_EQ(::eventfd_write(event.get(), 3), 0);
  EXPECT_EQ(Await(*ring_, op_), int32_t(sizeof count));
  EXPECT_EQ(count, 3U);
  ring_->ReadEvent(op_, event.get(), &count);
  Turn(*ring_);
  EXPECT_TRUE(op_.pending()) << "it is zero again";
  ring_->Cancel(op_);
  EXPECT_EQ(Await(*ring_, op_), -ECANCELED);
}

TEST_P(EveryRing, AFileGivesBackWhatWasWritten) {
  const UniqueFd file = TemporaryFile();
  std::string text = "ciphertext";
  ring_->Write(op_, file.get(), BytesOf(text).data(), 10, 4096);
  ASSERT_EQ(Await(*ring_, op_), 10);
  ring_->DataSync(op_, file.get());
  ASSERT_EQ(Await(*ring_, op_), 0);
  ring_->Advise(op_, file.get(), 0, 8192, POSIX_FADV_WILLNEED);
  ASSERT_EQ(Await(*ring_, op_), 0);
  std::string back(10, 0);
  ring_->Read(op_, file.get(), BytesOf(back).data(), 10, 4096);
  ASSERT_EQ(Await(*ring_, op_), 10);
  EXPECT_EQ(back, text);
}

TEST_P(EveryRing, AReadIsShortAtTheEndOfTheFileAndZeroBehindIt) {
  const UniqueFd file = TemporaryFile();
  ASSERT_EQ(::ftruncate(file.get(), 100), 0);
  std::string back(64, 0);
  ring_->Read(op_, file.get(), BytesOf(back).data(), 64, 90);
  EXPECT_EQ(Await(*ring_, op_), 10);
  ring_->Read(op_, file.get(), BytesOf(back).data(), 64, 100);
  EXPECT_EQ(Await(*ring_, op_), 0);
}

TEST_P(EveryRing, AllocatePunchesAHole) {
  const UniqueFd file = TemporaryFile();
  const std::string data(64 * 1024, 'd');
  ASSERT_EQ(::pwrite(file.get(), data.data(), data.size(), 0), ssize_t(data.size()));
  ring_->Allocate(op_, file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, data.size());
  ASSERT_EQ(Await(*ring_, op_), 0);
  char first = 'x';
  ASSERT_EQ(::pread(file.get(), &first, 1, 0), 1);
  EXPECT_EQ(first, 0);
}

TEST_P(EveryRing, FileErrorsAreTold) {
  const UniqueFd reader(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::string text(8, 0);
  ring_->Write(op_, reader.get(), BytesOf(text).data(), 8, 0);
  EXPECT_EQ(Await(*ring_, op_), -EBADF);
  ring_->Allocate(op_, reader.get(), 0, 0, 4096);
  EXPECT_EQ(Await(*ring_, op_), -EBADF);
  ring_->Read(op_, -1, BytesOf(text).data(), 8, 0);
  EXPECT_EQ(Await(*ring_, op_), -EBADF);
  ring_->DataSync(op_, sockets_.near.get());
  EXPECT_EQ(Await(*ring_, op_), -EINVAL);
  ring_->Advise(op_, sockets_.near.get(), 0, 4096, 99);
  EXPECT_LT(Await(*ring_, op_), 0);
}

/// Does itself again, as a shard's timer does.
class RepeatingOp final : public RingOp {
 public:
  explicit RepeatingOp(Ring& ring) : ring_(ring) { ring_.Nop(*this); }
  int turns = 0;

 private:
  void OnRingDone(int32_t) override {
    if (++turns < 3) ring_.Nop(*this);
  }
  Ring& ring_;
};

TEST_P(EveryRing, AnOperationMayBeginAnewWhileItIsTold) {
  RepeatingOp op(*ring_);
  while (op.pending()) {
    ASSERT_TRUE(ring_->SubmitAndWait().ok());
    ring_->Dispatch();
  }
  EXPECT_EQ(op.turns, 3);
}

TEST_P(EveryRing, AtTheAddressOfOneThatAnotherThreadGaveBackIsNoRaceWithIt) {
  const auto use = [engine = GetParam()] {
    const std::unique_ptr<Ring> ring = Ring::Create(engine).Take();
    RecordingOp nop;
    ring->Nop(nop);
    EXPECT_EQ(Await(*ring, nop), 0);
  };
  // Relaxed: so only what the rings themselves say orders the two threads.
  std::atomic<bool> gone{false};
  std::thread second([&] {
    while (!gone.load(std::memory_order_relaxed)) std::this_thread::yield();
    use();
  });
  std::thread first([&] {
    use();
    gone.store(true, std::memory_order_relaxed);
  });
  first.join();
  second.join();
}

TEST(RingDeathTest, ToDestroyOrBeginWhatIsPendingAborts) {
  const std::unique_ptr<Ring> ring = Ring::Create(Engine::kUring).Take();
  RecordingOp op;
  ring->Nop(op);
  EXPECT_DEATH(ring->Nop(op), "");
  EXPECT_DEATH(
      {
        RecordingOp dying;
        ring->Nop(dying);
      },
      "");
  EXPECT_EQ(Await(*ring, op), 0);
}

std::string NameOf(const ::testing::TestParamInfo<Engine>& info) {
  return std::string(EngineName(info.param));
}

INSTANTIATE_TEST_SUITE_P(Engines, EveryRing, ::testing::Values(Engine::kUring, Engine::kEpoll),
                         NameOf);

}  // namespace
}  // namespace keyhold::test

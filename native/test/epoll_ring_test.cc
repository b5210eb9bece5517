// SPDX-License-Identifier: Apache-2.0
// The threads behind EpollRing: calls that hang, that wait in the queue, that race with Cancel.
#include "core/io/epoll_ring.h"

#include <sys/syscall.h>

#include <cstring>
#include <deque>
#include <random>
#include <vector>

#include "test/ring_fixture.h"
#include "test/syscall_filter.h"

namespace keyhold::test {
namespace {

constexpr int64_t kShortNs = 50'000'000;
constexpr int64_t kLongNs = 10'000'000'000;

/// An EpollRing whose fdatasync hangs until it is released.
struct HangingRing {
  HeldSyscall sync{SYS_fdatasync};
  std::unique_ptr<Ring> ring = EpollRing::Create().Take();
  UniqueFd file = TemporaryFile();
  std::deque<RecordingOp> ops;

  RecordingOp& BeginSync() {
    ring->DataSync(ops.emplace_back(), file.get());
    return ops.back();
  }
  /// All threads hang in a call.
  void Fill() {
    for (size_t i = 0; i < FilePool::kThreadsMax; ++i) BeginSync();
    Turn(*ring);
    sync.WaitForCalls(FilePool::kThreadsMax);
  }
};

TEST(EpollRing, ARunningFileCallIsNotCancelledAndCompletes) {
  OnAnotherThread([] {
    HangingRing hanging;
    RecordingOp& op = hanging.BeginSync();
    Turn(*hanging.ring);
    hanging.sync.WaitForCalls(1);
    hanging.ring->Cancel(op);
    Turn(*hanging.ring);
    EXPECT_TRUE(op.pending()) << "a thread may still touch its bytes";
    hanging.sync.Release();
    EXPECT_EQ(Await(*hanging.ring, op), 0);
  });
}

TEST(EpollRing, AQueuedFileCallIsCancelledAtOnceAndNeverBegins) {
  OnAnotherThread([] {
    HangingRing hanging;
    hanging.Fill();
    UniqueFd empty = TemporaryFile();
    RecordingOp& queued = hanging.ops.emplace_back();
    hanging.ring->Allocate(queued, empty.get(), 0, 0, 4096);
    Turn(*hanging.ring);
    ASSERT_TRUE(queued.pending());
    hanging.ring->Cancel(queued);
    EXPECT_EQ(Await(*hanging.ring, queued), -ECANCELED);
    hanging.sync.Release();
    EXPECT_TRUE(hanging.ring->CancelAll(kLongNs));
    EXPECT_EQ(::lseek(empty.get(), 0, SEEK_END), 0) << "nothing was allocated";
  });
}

TEST(EpollRing, ThreadsAreBoundedAndTheRestWaitsItsTurn) {
  OnAnotherThread([] {
    HangingRing hanging;
    hanging.Fill();
    RecordingOp& later = hanging.BeginSync();
    Turn(*hanging.ring);
    hanging.sync.Release();
    hanging.sync.WaitForCalls(1);
    hanging.sync.Release();
    EXPECT_EQ(Await(*hanging.ring, later), 0);
    EXPECT_TRUE(hanging.ring->CancelAll(kLongNs));
  });
}

TEST(EpollRing, SocketsAreServedWhileEveryThreadHangs) {
  OnAnotherThread([] {
    HangingRing hanging;
    hanging.Fill();
    SocketPair sockets;
    std::string text(8, 0);
    RecordingOp op;
    hanging.ring->Receive(op, sockets.near.get(), BytesOf(text));
    Turn(*hanging.ring);
    ASSERT_EQ(::send(sockets.far.get(), "on", 2, 0), 2);
    EXPECT_EQ(Await(*hanging.ring, op), 2);
    hanging.sync.Release();
    EXPECT_TRUE(hanging.ring->CancelAll(kLongNs));
  });
}

TEST(EpollRing, CancelAllGivesUpOnAHungFileCallAndReapsTheRest) {
  OnAnotherThread([] {
    HangingRing hanging;
    hanging.Fill();
    RecordingOp& queued = hanging.BeginSync();
    SocketPair sockets;
    std::string text(8, 0);
    RecordingOp& receiving = hanging.ops.emplace_back();
    hanging.ring->Receive(receiving, sockets.near.get(), BytesOf(text));
    Turn(*hanging.ring);
    EXPECT_FALSE(hanging.ring->CancelAll(kShortNs));
    EXPECT_EQ(hanging.ring->pending_count(), FilePool::kThreadsMax);
    EXPECT_EQ(queued.reaped, -ECANCELED);
    EXPECT_EQ(receiving.reaped, -ECANCELED);
    EXPECT_FALSE(hanging.ops.front().reaped);
    hanging.sync.Release();
    EXPECT_TRUE(hanging.ring->CancelAll(kLongNs));
    EXPECT_EQ(hanging.ops.front().reaped, 0);
  });
}

TEST(EpollRingDeathTest, ToDestroyItWhileAFileCallHangsAborts) {
  EXPECT_DEATH(OnAnotherThread([] {
                 auto& hanging = *new HangingRing;
                 hanging.BeginSync();
                 Turn(*hanging.ring);
                 hanging.sync.WaitForCalls(1);
                 hanging.ring.reset();
               }),
               "");
}

TEST(EpollRing, IsAnErrorWhereNoThreadCanBeStarted) {
  OnAnotherThread([] {
    ForbidSyscall(SYS_clone3, EAGAIN);
    ForbidSyscall(SYS_clone, EAGAIN);
    const Result<std::unique_ptr<Ring>> ring = EpollRing::Create();
    ASSERT_FALSE(ring.ok());
    EXPECT_EQ(ring.error().errno_value, EAGAIN);
  });
}

TEST(EpollRing, ServesOnWhenLaterThreadsCannotBeStarted) {
  OnAnotherThread([] {
    std::unique_ptr<Ring> ring = EpollRing::Create().Take();
    ForbidSyscall(SYS_clone3, EAGAIN);
    ForbidSyscall(SYS_clone, EAGAIN);
    const UniqueFd file = TemporaryFile();
    std::array<RecordingOp, 8> ops;
    for (RecordingOp& op : ops) ring->DataSync(op, file.get());
    while (ring->pending_count() > 0) {
      ASSERT_TRUE(ring->SubmitAndWait().ok());
      ring->Dispatch();
    }
    for (const RecordingOp& op : ops) EXPECT_EQ(op.done, 0);
  });
}

/// A write of one page over and over, cancelled now and then.
struct RacingWrite {
  RecordingOp op;
  std::vector<uint8_t> page = std::vector<uint8_t>(4096);
};

TEST(EpollRing, CancelsThatRaceWithThreadsEndEveryCallOnce) {
  const std::unique_ptr<Ring> ring = EpollRing::Create().Take();
  const UniqueFd file = TemporaryFile();
  std::mt19937 random(20260727);
  std::array<RacingWrite, 48> writes;
  size_t begun = 0;
  size_t ended = 0;
  for (int round = 0; round < 400; ++round) {
    for (size_t i = 0; i < writes.size(); ++i) {
      RacingWrite& write = writes[i];
      if (!write.op.pending()) {
        if (std::exchange(write.op.done, std::nullopt)) ++ended;
        std::memset(write.page.data(), static_cast<int>(random()), write.page.size());
        if (random() % 4 == 0) {
          ring->Allocate(write.op, file.get(), 0, i * 4096, 4096);
        } else {
          ring->Write(write.op, file.get(), write.page.data(), 4096, i * 4096);
        }
        ++begun;
      } else if (random() % 2 == 0) {
        ring->Cancel(write.op);
      }
    }
    ASSERT_TRUE(ring->SubmitAndWait().ok());
    ring->Dispatch();
    for (const RacingWrite& write : writes) {
      const int32_t done = write.op.done.value_or(0);
      ASSERT_TRUE(done == 4096 || done == 0 || done == -ECANCELED) << done;
    }
  }
  const size_t pending = ring->pending_count();
  ASSERT_TRUE(ring->CancelAll(kLongNs));
  for (RacingWrite& write : writes) ended += write.op.done ? 1 : 0;
  EXPECT_EQ(begun, ended + pending);
}

}  // namespace
}  // namespace keyhold::test

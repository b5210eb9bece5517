// SPDX-License-Identifier: Apache-2.0
#include "core/io/epoll_ring.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace keyhold {
namespace {

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kNsPerSecond = 1'000'000'000;

Error SystemError(const std::string& what) {
  const int errno_value = errno;
  return Error{ErrorCode::kSystem, errno_value, what + ": " + std::strerror(errno_value)};
}

int64_t MonotonicNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNsPerSecond + now.tv_nsec;
}

bool Receives(RingCall::Kind kind) {
  return kind != RingCall::Kind::kSend && kind != RingCall::Kind::kSendMessage;
}

/// accept has no flag for one call that must not block, and O_NONBLOCK would stay with a listener
/// that other processes share. Its time to wait is set back after the call.
int AcceptAtOnce(int fd) {
  const timeval shortest{0, 1};
  const timeval for_ever{};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &shortest, sizeof shortest);
  const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
  const int errno_value = errno;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever);
  errno = errno_value;
  return accepted;
}

/// What a call on a socket or an eventfd gives now. -EAGAIN when it would block.
int32_t Attempt(const RingCall& call) {
  ssize_t done = 0;
  switch (call.kind) {
    case RingCall::Kind::kReceive:
      done = ::recv(call.fd, call.memory, call.length_bytes, MSG_DONTWAIT);
      break;
    case RingCall::Kind::kReceiveMessage:
      done = ::recvmsg(call.fd, static_cast<msghdr*>(call.memory), MSG_DONTWAIT);
      break;
    case RingCall::Kind::kSend:
      done = ::send(call.fd, call.memory, call.length_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
      break;
    case RingCall::Kind::kSendMessage:
      done = ::sendmsg(call.fd, static_cast<msghdr*>(call.memory), MSG_DONTWAIT | MSG_NOSIGNAL);
      break;
    case RingCall::Kind::kAccept:
      done = AcceptAtOnce(call.fd);
      break;
    case RingCall::Kind::kReadEvent:
      done = ::read(call.fd, call.memory, sizeof(uint64_t));
      break;
    default:
      std::abort();  // waits for no descriptor
  }
  return static_cast<int32_t>(done < 0 ? -errno : done);
}

}  // namespace

Result<std::unique_ptr<Ring>> EpollRing::Create() {
  std::unique_ptr<EpollRing> ring(new EpollRing());
  ring->epoll_fd_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!ring->epoll_fd_) return SystemError("set up epoll");
  Result<std::unique_ptr<FilePool>> pool = FilePool::Create();
  if (!pool) return pool.error();
  ring->pool_ = pool.Take();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = ring->pool_->event_fd();
  if (::epoll_ctl(ring->epoll_fd_.get(), EPOLL_CTL_ADD, event.data.fd, &event) != 0) {
    return SystemError("watch the threads for files");
  }
  return std::unique_ptr<Ring>(std::move(ring));
}

EpollRing::~EpollRing() {
  if (pending_count() > 0) std::abort();
}

RingCall& EpollRing::Collect(RingOp& op, RingCall::Kind kind, int fd) {
  Begin(op);
  RingCall& call = CallOf(op);
  call.kind = kind;
  call.state = RingCall::State::kFresh;
  call.fd = fd;
  call.op = &op;
  fresh_.Add(call);
  return call;
}

void EpollRing::Receive(RingOp& op, int fd, std::span<uint8_t> into) {
  RingCall& call = Collect(op, RingCall::Kind::kReceive, fd);
  call.memory = into.data();
  call.length_bytes = into.size();
}

void EpollRing::ReceiveMessage(RingOp& op, int fd, msghdr* message) {
  Collect(op, RingCall::Kind::kReceiveMessage, fd).memory = message;
}

void EpollRing::Send(RingOp& op, int fd, std::span<const uint8_t> bytes) {
  RingCall& call = Collect(op, RingCall::Kind::kSend, fd);
  call.memory = const_cast<uint8_t*>(bytes.data());
  call.length_bytes = bytes.size();
}

void EpollRing::SendMessage(RingOp& op, int fd, const msghdr* message) {
  Collect(op, RingCall::Kind::kSendMessage, fd).memory = const_cast<msghdr*>(message);
}

void EpollRing::Accept(RingOp& op, int fd) { Collect(op, RingCall::Kind::kAccept, fd); }

void EpollRing::ReadEvent(RingOp& op, int fd, uint64_t* count) {
  Collect(op, RingCall::Kind::kReadEvent, fd).memory = count;
}

void EpollRing::Read(RingOp& op, int fd, uint8_t* into, uint32_t length_bytes,
                     uint64_t offset_bytes) {
  RingCall& call = Collect(op, RingCall::Kind::kRead, fd);
  call.memory = into;
  call.length_bytes = length_bytes;
  call.offset_bytes = offset_bytes;
}

void EpollRing::Write(RingOp& op, int fd, const uint8_t* from, uint32_t length_bytes,
                      uint64_t offset_bytes) {
  RingCall& call = Collect(op, RingCall::Kind::kWrite, fd);
  call.memory = const_cast<uint8_t*>(from);
  call.length_bytes = length_bytes;
  call.offset_bytes = offset_bytes;
}

void EpollRing::DataSync(RingOp& op, int fd) { Collect(op, RingCall::Kind::kDataSync, fd); }

void EpollRing::Allocate(RingOp& op, int fd, int mode, uint64_t offset_bytes,
                         uint64_t length_bytes) {
  RingCall& call = Collect(op, RingCall::Kind::kAllocate, fd);
  call.mode = mode;
  call.offset_bytes = offset_bytes;
  call.length_bytes = length_bytes;
}

void EpollRing::Advise(RingOp& op, int fd, uint64_t offset_bytes, uint32_t length_bytes,
                       int advice) {
  RingCall& call = Collect(op, RingCall::Kind::kAdvise, fd);
  call.mode = advice;
  call.offset_bytes = offset_bytes;
  call.length_bytes = length_bytes;
}

void EpollRing::Timeout(RingOp& op, __kernel_timespec* interval) {
  Collect(op, RingCall::Kind::kTimeout, -1).due_ns =
      MonotonicNs() + interval->tv_sec * kNsPerSecond + interval->tv_nsec;
}

void EpollRing::Nop(RingOp& op) { Collect(op, RingCall::Kind::kNop, -1); }

void EpollRing::Cancel(RingOp& op) {
  if (!Pending(op)) return;
  RingCall& call = CallOf(op);
  switch (call.state) {
    case RingCall::State::kFresh:
      fresh_.Remove(call);
      break;
    case RingCall::State::kWaiting:
      if (call.kind == RingCall::Kind::kTimeout) {
        timers_.Remove(call);
      } else {
        Waiters& waiters = waiters_[static_cast<size_t>(call.fd)];
        (Receives(call.kind) ? waiters.receiver : waiters.sender) = nullptr;
        Arm(call.fd);
      }
      break;
    case RingCall::State::kInPool:
      if (!pool_->Withdraw(call)) return;
      break;
    case RingCall::State::kDone:
      return;
  }
  Done(call, -ECANCELED);
}

void EpollRing::Start(RingCall& call) {
  switch (call.kind) {
    case RingCall::Kind::kNop:
      Done(call, 0);
      return;
    case RingCall::Kind::kTimeout:
      call.state = RingCall::State::kWaiting;
      timers_.Add(call);
      return;
    case RingCall::Kind::kAccept:
    case RingCall::Kind::kReadEvent:
      Await(call);  // trying first could block
      return;
    case RingCall::Kind::kReceive:
    case RingCall::Kind::kReceiveMessage:
    case RingCall::Kind::kSend:
    case RingCall::Kind::kSendMessage: {
      const int32_t result = Attempt(call);
      if (result == -EAGAIN) {
        Await(call);
      } else {
        Done(call, result);
      }
      return;
    }
    case RingCall::Kind::kRead:
    case RingCall::Kind::kWrite:
      if (FilePool::TryAtOnce(call)) {
        Done(call, call.result);
        return;
      }
      [[fallthrough]];
    case RingCall::Kind::kDataSync:
    case RingCall::Kind::kAllocate:
    case RingCall::Kind::kAdvise:
      call.state = RingCall::State::kInPool;
      pool_->Submit(call);
      return;
  }
}

void EpollRing::Await(RingCall& call) {
  if (call.fd < 0) {
    Done(call, -EBADF);
    return;
  }
  const size_t index = static_cast<size_t>(call.fd);
  if (index >= waiters_.size()) waiters_.resize(index + 1);
  RingCall*& waiter = Receives(call.kind) ? waiters_[index].receiver : waiters_[index].sender;
  if (waiter != nullptr) std::abort();
  waiter = &call;
  call.state = RingCall::State::kWaiting;
  Arm(call.fd);
}

/// Has epoll tell once of what the waiters of `fd` wait for. They fail if it cannot.
void EpollRing::Arm(int fd) {
  Waiters& waiters = waiters_[static_cast<size_t>(fd)];
  if (waiters.receiver == nullptr && waiters.sender == nullptr) {
    ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
    return;
  }
  epoll_event event{};
  event.data.fd = fd;
  event.events = EPOLLONESHOT;
  if (waiters.receiver != nullptr) event.events |= EPOLLIN | EPOLLRDHUP;
  if (waiters.sender != nullptr) event.events |= EPOLLOUT;
  if (::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_MOD, fd, &event) == 0) return;
  if (errno == ENOENT && ::epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0) return;
  const int errno_value = errno;
  for (RingCall** waiter : {&waiters.receiver, &waiters.sender}) {
    if (*waiter != nullptr) Done(*std::exchange(*waiter, nullptr), -errno_value);
  }
}

void EpollRing::Retry(RingCall*& waiter) {
  const int32_t result = Attempt(*waiter);
  if (result != -EAGAIN) Done(*std::exchange(waiter, nullptr), result);
}

void EpollRing::OnReady(int fd, uint32_t events) {
  constexpr uint32_t kEnded = EPOLLERR | EPOLLHUP;
  Waiters& waiters = waiters_[static_cast<size_t>(fd)];
  if (waiters.receiver != nullptr && (events & (EPOLLIN | EPOLLRDHUP | kEnded)) != 0) {
    Retry(waiters.receiver);
  }
  if (waiters.sender != nullptr && (events & (EPOLLOUT | kEnded)) != 0) Retry(waiters.sender);
  if (waiters.receiver != nullptr || waiters.sender != nullptr) Arm(fd);
}

void EpollRing::Done(RingCall& call, int32_t result) {
  call.state = RingCall::State::kDone;
  call.result = result;
  done_.Add(call);
}

void EpollRing::TakeFromPool() {
  uint64_t count = 0;
  // Before the calls are taken, or the news of one that comes between would be lost.
  (void)!::read(pool_->event_fd(), &count, sizeof count);
  RingCallList done = pool_->TakeDone();
  while (RingCall* call = done.Take()) Done(*call, call->result);
}

void EpollRing::ExpireTimers() {
  if (timers_.empty()) return;
  const int64_t now_ns = MonotonicNs();
  for (RingCall* call = timers_.first(); call != nullptr;) {
    RingCall& timer = *std::exchange(call, call->next);
    if (timer.due_ns > now_ns) continue;
    timers_.Remove(timer);
    Done(timer, -ETIME);
  }
}

/// Until the next timer, at most `wait_ns`; rounded up, or a timer would be asked for too early.
int EpollRing::WaitMs(int64_t wait_ns) const {
  if (!done_.empty()) return 0;
  const int64_t now_ns = MonotonicNs();
  for (const RingCall* call = timers_.first(); call != nullptr; call = call->next) {
    const int64_t left_ns = std::max<int64_t>(call->due_ns - now_ns, 0);
    wait_ns = wait_ns < 0 ? left_ns : std::min(wait_ns, left_ns);
  }
  return wait_ns < 0 ? -1 : static_cast<int>((wait_ns + kNsPerMs - 1) / kNsPerMs);
}

Status EpollRing::Turn(int64_t wait_ns) {
  while (RingCall* call = fresh_.Take()) Start(*call);
  std::array<epoll_event, kEventsMax> events;
  const int count = ::epoll_wait(epoll_fd_.get(), events.data(), kEventsMax, WaitMs(wait_ns));
  if (count < 0 && errno != EINTR) return SystemError("wait in epoll");
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    if (event.data.fd == pool_->event_fd()) {
      TakeFromPool();
    } else {
      OnReady(event.data.fd, event.events);
    }
  }
  ExpireTimers();
  return Ok();
}

Status EpollRing::SubmitAndWait() { return Turn(-1); }

Status EpollRing::Submit() { return Turn(0); }

/// A failure counts as news: the next Submit fails in the same way and tells.
bool EpollRing::HasNews() { return !Turn(0) || !done_.empty(); }

void EpollRing::Dispatch() {
  // What the owners begin meanwhile is for the next turn, so this list only shrinks.
  RingCallList done = std::exchange(done_, {});
  while (RingCall* call = done.Take()) Complete(*call->op, call->result);
}

bool EpollRing::ReapSome(int64_t wait_ns) {
  if (!Turn(wait_ns)) return false;
  while (RingCall* call = done_.Take()) Reap(*call->op, call->result);
  return true;
}

}  // namespace keyhold

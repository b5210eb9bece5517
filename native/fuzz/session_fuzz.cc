// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as the transmission phase of a connection: a real plane with one shard, a real
// socket and a store in memory. The first three bytes of an input choose the circumstances (Mode),
// the rest is what the client sends. Beyond what the sanitizers find, the replies must be such as a
// correct server may send (Transcript), the connection must end, and nothing may stay in flight.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/disk/disk.h"
#include "core/disk/lease.h"
#include "core/shard/plane.h"
#include "core/store/file_store.h"
#include "core/xts/cipher.h"
#include "fuzz/require.h"
#include "fuzz/transcript.h"

namespace keyhold::fuzz {
namespace {

/// Small, so that an input full of longest reads stays quick; no multiple of anything but 4096.
constexpr uint64_t kDiskBytes = 9 * 4096;
constexpr int64_t kHangNs = 20'000'000'000;  // far beyond any input's honest time

enum class Key : uint8_t { kKept, kAbsent, kSuspended, kRevoked };

constexpr size_t kModeBytes = 3;

/// The first bytes of an input.
struct Mode {
  Agreed agreed;
  bool read_only;
  uint32_t sector_size_bytes;
  bool holes;
  size_t cut;  // that much comes with the last option
  Key key;     // lost when half of the rest is sent

  explicit Mode(std::span<const uint8_t> input)
      : agreed{RepliesOf(input[0] & 3), (input[0] & 32) != 0},
        read_only((input[0] & 4) != 0),
        sector_size_bytes((input[0] & 8) != 0 ? 4096 : 512),
        holes((input[0] & 16) == 0),
        cut(input[1]),
        key(KeyOf(input[2])) {}

  static Replies RepliesOf(int bits) {
    if (bits == 3) return Replies::kExtended;
    return bits == 0 ? Replies::kSimple : Replies::kStructured;
  }

  wire::Agreed ForServer() const {
    wire::Agreed server;
    if (agreed.replies == Replies::kStructured) server.replies = wire::Replies::kStructured;
    if (agreed.replies == Replies::kExtended) server.replies = wire::Replies::kExtended;
    if (agreed.allocation) server.allocation_context_id = Agreed::kAllocationId;
    return server;
  }

  /// Losing a key takes a hundred times as long as the rest of an input, so it is made rare.
  static Key KeyOf(uint8_t byte) {
    if (byte == 0xff) return Key::kRevoked;
    if (byte == 0xfe) return Key::kSuspended;
    return byte == 0xfd ? Key::kAbsent : Key::kKept;
  }

  uint8_t disk_number() const {
    return static_cast<uint8_t>((read_only ? 1 : 0) | (sector_size_bytes == 4096 ? 2 : 0) |
                                (holes ? 4 : 0) | (key == Key::kAbsent ? 8 : 0));
  }
};

std::unique_ptr<xts::Cipher> NewCipher(uint32_t sector_size_bytes) {
  std::array<uint8_t, 64> dek{};
  for (size_t i = 0; i < dek.size(); ++i) dek[i] = static_cast<uint8_t>(i);
  return xts::CreateCipher("auto", dek, sector_size_bytes).Take();
}

struct FuzzDisk {
  std::shared_ptr<Disk> disk;
  int memory_fd;
};

/// The server, built once for all inputs.
class Server {
 public:
  Server() {
    Plane::Options options{1, "auto"};
    options.cipher_threads = 1;
    plane_ = Plane::Create(options, [this](Event event) { OnEvent(event); }).Take();
    lease_->Renew(BootTimeNs(), INT64_C(86'400'000'000'000));
    thread_ = std::thread([this] { (void)plane_->RunShard(0); });
    socket_path_ = "/tmp/keyhold-fuzz-" + std::to_string(::getpid()) + ".sock";
    Require(plane_->ListenUnix(socket_path_, 0600).ok(), "the harness listens");
  }

  void Stop() {
    plane_->Stop();
    thread_.join();
  }

  FuzzDisk& DiskFor(const Mode& mode) {
    auto [found, fresh] = disks_.try_emplace(mode.disk_number());
    if (fresh) found->second = MakeDisk(mode);
    return found->second;
  }

  UniqueFd Connect(NextStep next) {
    {
      std::lock_guard lock(mutex_);
      next_ = std::move(next);
      closed_ = false;
    }
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_path_.data(), socket_path_.size());
    Require(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
            "the harness connects");
    return socket;
  }

  void AwaitClosed() {
    std::unique_lock lock(mutex_);
    Require(news_.wait_for(lock, std::chrono::nanoseconds(kHangNs), [&] { return closed_; }),
            "the server tells that the connection is closed");
  }

 private:
  FuzzDisk MakeDisk(const Mode& mode) {
    FuzzDisk made{nullptr, ::memfd_create("fuzz-store", MFD_CLOEXEC)};
    Require(::ftruncate(made.memory_fd, kDiskBytes) == 0, "the harness sizes its store");
    const std::string path = "/proc/self/fd/" + std::to_string(made.memory_fd);
    Plane::DiskOptions options;
    options.name = "fuzz-" + std::to_string(mode.disk_number());
    options.geometry = {kDiskBytes, mode.sector_size_bytes, 0, mode.read_only, mode.holes};
    made.disk =
        plane_->AddDisk(options, FileStore::Open(path, mode.read_only, kDiskBytes).Take(), lease_)
            .Take();
    if (mode.key != Key::kAbsent) {
      Require(made.disk->Unlock(NewCipher(mode.sector_size_bytes)).ok(), "a new disk is unlocked");
    }
    return made;
  }

  void OnEvent(const Event& event) {
    std::unique_lock lock(mutex_);
    if (std::holds_alternative<ConnectionClosed>(event)) {
      closed_ = true;
      news_.notify_all();
    } else if (const auto* open = std::get_if<NegotiationOpen>(&event)) {
      NextStep next = std::move(next_);
      lock.unlock();
      plane_->Respond(open->connection_id, {}, std::move(next));
    }
  }

  std::shared_ptr<Plane> plane_;
  std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
  std::thread thread_;
  std::string socket_path_;
  std::map<uint8_t, FuzzDisk> disks_;
  std::mutex mutex_;  // guards the members below
  std::condition_variable news_;
  NextStep next_;
  bool closed_ = false;
};

/// Sends all of `stream` and collects what comes back until the server closes.
class Conversation {
 public:
  Conversation(UniqueFd socket, Disk& disk, Key key) : socket_(std::move(socket)), disk_(disk) {
    key_step_ = key == Key::kSuspended || key == Key::kRevoked ? KeyStep::kToLose : KeyStep::kStill;
    revoke_ = key == Key::kRevoked;
  }

  std::vector<uint8_t> Hold(std::span<const uint8_t> stream) {
    const int64_t deadline_ns = BootTimeNs() + kHangNs;
    const size_t lose_key_at = stream.size() / 2;
    size_t sent = 0;
    bool shut = false;
    while (!ended_) {
      Require(BootTimeNs() < deadline_ns, "the connection ends");
      if (sent >= lose_key_at) StepKey();
      if (sent == stream.size() && !shut) {
        ::shutdown(socket_.get(), SHUT_WR);
        shut = true;
      }
      const size_t until = sent < lose_key_at ? lose_key_at : stream.size();
      pollfd waiting{socket_.get(), static_cast<short>(POLLIN | (shut ? 0 : POLLOUT)), 0};
      ::poll(&waiting, 1, key_step_ == KeyStep::kStill ? 100 : 1);
      if (!shut) sent += Send(stream.subspan(sent, until - sent), stream.size() - sent);
      Receive();
    }
    while (key_step_ != KeyStep::kStill) {
      Require(BootTimeNs() < deadline_ns, "the key can be taken away and given back");
      StepKey();
      std::this_thread::yield();
    }
    return std::move(received_);
  }

 private:
  enum class KeyStep : uint8_t { kStill, kToLose, kLosing };

  /// Bytes that need not be sent any more; `all_left` of them when the server has closed.
  size_t Send(std::span<const uint8_t> bytes, size_t all_left) {
    if (bytes.empty()) return 0;
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<size_t>(sent);
    return errno == EAGAIN || errno == EINTR ? 0 : all_left;
  }

  void Receive() {
    std::array<uint8_t, 65'536> piece;
    const ssize_t got = ::recv(socket_.get(), piece.data(), piece.size(), 0);
    if (got > 0) received_.insert(received_.end(), piece.begin(), piece.begin() + got);
    ended_ = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
  }

  void StepKey() {
    if (key_step_ == KeyStep::kToLose) {
      key_step_ = KeyStep::kLosing;
      auto lost = key_lost_;
      const Status status = revoke_ ? disk_.GoOffline([lost](OfflineReceipt) { *lost = true; })
                                    : disk_.Suspend([lost](SuspendReceipt) { *lost = true; });
      Require(status.ok(), "a serving disk gives up its key");
    } else if (key_step_ == KeyStep::kLosing && *key_lost_) {
      key_step_ = KeyStep::kStill;
      Require(disk_.Unlock(NewCipher(disk_.geometry().sector_size_bytes)).ok(),
              "a disk without a key takes one");
    }
  }

  UniqueFd socket_;
  Disk& disk_;
  KeyStep key_step_;
  bool revoke_;
  bool ended_ = false;
  std::shared_ptr<std::atomic<bool>> key_lost_ = std::make_shared<std::atomic<bool>>(false);
  std::vector<uint8_t> received_;
};

uint64_t InFlight(const Disk& disk) {
  uint64_t sum = 0;
  for (const ShardCounters& counters : disk.counters()) sum += counters.in_flight.Get();
  return sum;
}

Server& TheServer() {
  static Server* const server = [] {
    auto* made = new Server;  // lives as long as the process; the exit handler stops its thread
    std::atexit([] { TheServer().Stop(); });
    return made;
  }();
  return *server;
}

}  // namespace

void RunInput(std::span<const uint8_t> input) {
  if (input.size() < kModeBytes) return;
  const Mode mode(input);
  std::vector<uint8_t> stream(input.begin() + kModeBytes, input.end());
  Transcript transcript(stream, mode.agreed);

  FuzzDisk& target = TheServer().DiskFor(mode);
  const size_t cut = std::min(mode.cut, stream.size());
  NextStep next;
  next.kind = NextStep::Kind::kTransmission;
  next.disk_id = target.disk->id();
  next.agreed = mode.ForServer();
  next.leftover.assign(stream.begin(), stream.begin() + static_cast<ptrdiff_t>(cut));
  Conversation conversation(TheServer().Connect(std::move(next)), *target.disk, mode.key);
  const std::vector<uint8_t> replies = conversation.Hold(std::span(stream).subspan(cut));
  TheServer().AwaitClosed();
  transcript.Check(replies);

  const int64_t deadline_ns = BootTimeNs() + kHangNs;
  while (InFlight(*target.disk) != 0) {
    Require(BootTimeNs() < deadline_ns, "nothing stays in flight after the connection");
    std::this_thread::yield();
  }
  ::fallocate(target.memory_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kDiskBytes);
}

}  // namespace keyhold::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  keyhold::fuzz::RunInput({data, size});
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/disk/disk.h"
#include "core/io/unique_fd.h"
#include "core/shard/plane.h"
#include "core/shard/wire.h"
#include "test/raw_client.h"

namespace keyhold::test {

/// A directory that is removed with everything in it.
class TempDirectory {
 public:
  /// In the directory for temporary files unless another one is named.
  explicit TempDirectory(const std::string& parent = {});
  ~TempDirectory();
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Passes everything to another store, but for what `hook` decides. The hook runs on shard threads.
class FaultStore final : public Store {
 public:
  struct Verdict {
    int errno_value = 0;   // fail with it
    bool wait = false;     // ask again in a moment
    bool shorten = false;  // report half of what was transferred
  };
  using Hook = std::function<Verdict(const StoreOp&)>;
  using Watch = std::function<void(const StoreOp&)>;
  /// What is done on the calling thread: an errno to fail with, or 0.
  using NowHook = std::function<int(const StoreOp&)>;
  /// `watch` sees each operation once, as it begins. Without `now_hook` nothing is done at once.
  FaultStore(std::unique_ptr<Store> inner, Hook hook, Watch watch, NowHook now_hook = nullptr)
      : inner_(std::move(inner)),
        hook_(std::move(hook)),
        watch_(std::move(watch)),
        now_hook_(std::move(now_hook)) {}

  void Close() override { inner_->Close(); }
  uint64_t size_bytes() const override { return inner_->size_bytes(); }

 protected:
  void Start(Ring& ring, StoreOp& op) override;
  void Continue(Ring& ring, StoreOp& op, int32_t result) override;
  std::optional<int32_t> RunNow(StoreOp& op) override;

 private:
  std::unique_ptr<Store> inner_;
  void Ask(Ring& ring, StoreOp& op);
  Hook hook_;
  Watch watch_;
  NowHook now_hook_;
  std::mutex mutex_;                  // guards held_
  std::vector<const StoreOp*> held_;  // operations that are a Nop or Timeout of ours just now
  __kernel_timespec pause_{0, 2'000'000};
};

/// What a listener with TLS says in clear before the handshake.
inline constexpr uint8_t kStartTlsAnswer = 'A';

struct DiskSetup {
  uint64_t size_bytes = 1 << 20;
  uint32_t sector_size_bytes = 512;
  uint64_t data_offset_bytes = 8192;
  bool read_only = false;
  bool holes = true;
  bool lease_enforced = false;
  int64_t drain_ns_max = Disk::kDrainNsMax;
  int64_t hold_ns_max = Disk::kHoldNsMax;
  uint64_t in_flight_bytes_max = Disk::kInFlightBytesMax;
  FaultStore::Hook hook;  // each of them wraps the store in a FaultStore
  FaultStore::Watch watch;
  FaultStore::NowHook now_hook;
  bool unlocked = true;
  bool in_memory = false;  // the store lies on tmpfs, where transfers finish at once
};

/// The engine of every TestPlane: io_uring, unless the tests run with --engine=epoll.
inline std::string engine_under_test = "io_uring";

/// A plane with shards on threads of this process, and disks on files in a temporary directory.
class TestPlane {
 public:
  explicit TestPlane(uint32_t shards = 1, int64_t drain_stall_ns_max = Session::kDrainStallNs,
                     uint32_t cipher_threads = 2);
  ~TestPlane();

  Plane& plane() { return *plane_; }
  /// With a lease that holds for an hour unless one is given.
  std::shared_ptr<Disk> AddDisk(DiskSetup setup = {}, std::shared_ptr<Lease> lease = nullptr);
  Client Connect(const std::shared_ptr<Disk>& disk, bool structured = false, Bytes leftover = {});
  Client Connect(const std::shared_ptr<Disk>& disk, wire::Agreed agreed, Bytes leftover = {});
  /// The path of the listener that Connect uses.
  std::string Listen(const std::shared_ptr<Disk>& disk, wire::Agreed agreed, Bytes leftover,
                     uint32_t tls_context_id = 0);
  std::string StorePath(const Disk& disk) const;
  void RunShardAgain(uint32_t index);
  /// From here on connections to listeners of the test's own wait in negotiation; else they are
  /// closed.
  void AnswerNothing() { answer_nothing_ = true; }
  void Stop();

  /// Waits until an event satisfies `wanted`, looking also at those that came before.
  template <typename T>
  std::optional<T> WaitFor(
      std::function<bool(const T&)> wanted = [](const T&) { return true; }, int ms = 5000) {
    std::unique_lock lock(mutex_);
    std::optional<T> found;
    arrived_.wait_for(lock, std::chrono::milliseconds(ms), [&] {
      for (const Event& event : events_) {
        const T* one = std::get_if<T>(&event);
        if (one != nullptr && wanted(*one)) found = *one;
        if (found) return true;
      }
      return false;
    });
    return found;
  }
  size_t CountEvents(std::function<bool(const Event&)> wanted);

 private:
  void OnEvent(Event event);
  struct Target {
    uint32_t disk_id;
    wire::Agreed agreed;
    Bytes leftover;
    uint32_t tls_context_id;  // 0: transmission at once, in clear
  };
  NextStep StepFor(uint32_t listener_id, bool in_tls);

  TempDirectory directory_;
  TempDirectory memory_{"/dev/shm"};
  std::shared_ptr<Plane> plane_;
  std::shared_ptr<Lease> lease_ = std::make_shared<Lease>();
  std::mutex mutex_;  // guards the members below
  std::condition_variable arrived_;
  std::vector<Event> events_;
  std::vector<std::pair<uint32_t, Target>> targets_;  // by listener
  std::map<uint32_t, uint32_t> listener_of_;          // by connection
  std::vector<std::thread> threads_;
  uint32_t files_ = 0;
  std::atomic<bool> answer_nothing_{false};
};

std::array<uint8_t, 64> TestDek();
std::unique_ptr<xts::Cipher> TestCipher(uint32_t sector_size_bytes);
Status Unlock(Disk& disk);
/// Ciphertext of one sector by OpenSSL, independent of core/xts.
Bytes OracleEncrypt(std::span<const uint8_t> sector, uint64_t unit);

SuspendReceipt Suspend(Disk& disk);
OfflineReceipt GoOffline(Disk& disk);

/// Sums a counter over the shards.
uint64_t Sum(const Disk& disk, const std::function<const Counter&(const ShardCounters&)>& pick);
/// Polls for up to 5 s.
bool Eventually(const std::function<bool()>& condition);

Bytes Pattern(size_t length, uint32_t seed);
Bytes ReadFile(const std::string& path);

}  // namespace keyhold::test

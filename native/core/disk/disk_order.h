// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace keyhold {

class Disk;

/// What every shard has to do about a disk, and the tally of those that are done. The router hands
/// each living shard one Share; when the last Share is gone (done, given up, or its shard died)
/// `finish` runs once, on whatever thread that was.
class DiskOrder {
 public:
  enum class Kind : uint8_t {
    kSuspend,  // stop reading sockets, park what needs the key, wipe plaintext that is not parked
    kResume,   // serve parked requests, read sockets again
    kOffline,  // answer ESHUTDOWN to what is not ciphertext, drain the rest, wipe all plaintext
    kDisconnect,  // close the disk's connections
    kClose,       // close the disk's connections and forget the disk
  };
  using Finish = std::function<void(DiskOrder&)>;

  class Share {
   public:
    explicit Share(std::shared_ptr<DiskOrder> order) : order_(std::move(order)) {
      order_->open_shares_.fetch_add(1, std::memory_order_relaxed);
    }
    Share(Share&& other) noexcept = default;
    Share& operator=(Share&& other) noexcept {
      Settle();
      order_ = std::move(other.order_);
      return *this;
    }
    ~Share() { Settle(); }
    DiskOrder& order() const { return *order_; }

   private:
    void Settle() {
      if (order_ == nullptr) return;
      std::shared_ptr<DiskOrder> order = std::move(order_);
      if (order->open_shares_.fetch_sub(1, std::memory_order_acq_rel) == 1) order->finish_(*order);
    }
    std::shared_ptr<DiskOrder> order_;
  };

  DiskOrder(Kind kind, std::shared_ptr<Disk> disk, int64_t requested_ns, Finish finish)
      : kind_(kind),
        disk_(std::move(disk)),
        requested_ns_(requested_ns),
        finish_(std::move(finish)) {}

  Kind kind() const { return kind_; }
  const std::shared_ptr<Disk>& disk() const { return disk_; }
  int64_t requested_ns() const { return requested_ns_; }

  /// Tallies, added to by shards before they settle their share.
  std::atomic<uint64_t> parked{0};
  std::atomic<uint64_t> refused{0};
  std::atomic<uint64_t> connections{0};
  /// Requests that a hung store still held when a shard gave up waiting.
  std::atomic<uint64_t> unfinished{0};

 private:
  const Kind kind_;
  const std::shared_ptr<Disk> disk_;
  const int64_t requested_ns_;
  const Finish finish_;
  std::atomic<uint64_t> open_shares_{0};
};

/// A flush of a disk's store that some shard does on its ring. `done` runs exactly once: with
/// nothing on success, else with what went wrong; at the latest when the job is dropped.
class FlushJob {
 public:
  using Done = std::function<void(std::optional<std::string> error)>;
  FlushJob(std::shared_ptr<Disk> disk, int64_t deadline_ns, Done done)
      : disk_(std::move(disk)), deadline_ns_(deadline_ns), done_(std::move(done)) {}
  ~FlushJob() { Finish("no shard is running that could flush the store"); }
  FlushJob(const FlushJob&) = delete;
  FlushJob& operator=(const FlushJob&) = delete;

  const std::shared_ptr<Disk>& disk() const { return disk_; }
  int64_t deadline_ns() const { return deadline_ns_; }
  void Finish(std::optional<std::string> error) {
    Done done = std::exchange(done_, nullptr);
    if (done) done(std::move(error));
  }

 private:
  std::shared_ptr<Disk> disk_;
  int64_t deadline_ns_;
  Done done_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/disk/disk.h"
#include "core/disk/event.h"
#include "core/io/engine.h"
#include "core/shard/cipher_threads.h"
#include "core/shard/listener.h"
#include "core/shard/mailbox.h"
#include "core/shard/message.h"
#include "core/shard/negotiation.h"
#include "core/shard/session.h"
#include "core/tls/context.h"

namespace keyhold {

/// The data plane: a fixed number of shard slots, and what they share: disks, listeners,
/// connections. Every method may be called from any thread. A shard that died may be run again in
/// the same slot; while it is away its listeners accept on another shard, or wait for the next one
/// that starts.
///
/// Lock order: Disk::control_mutex_, then Plane::mutex_, then a mailbox's mutex.
class Plane final : public std::enable_shared_from_this<Plane>, public OrderRouter {
 public:
  /// Of all listeners; one more is closed at once. Each session has a receive buffer of 256 KiB, so
  /// these hold at most 256 MiB before a request is in flight.
  static constexpr uint32_t kConnectionsMax = 1024;
  /// Of one peer (PeerKey): three quarters, so that no peer can keep out all others. 48 disks with
  /// 16 connections each from one host.
  static constexpr uint32_t kConnectionsPerPeerMax = 768;
  static constexpr int64_t kRefusalEventNs = 1'000'000'000;

  struct Options {
    uint32_t shards;
    std::string xts_kernel;       // "auto" or a kernel's name
    std::string engine = "auto";  // see ChooseEngine
    int64_t busy_poll_ns = 0;     // see BusyPoll; 0: never
    uint32_t cipher_threads = 0;  // see CipherThreads; 0: shards do everything themselves
    // Tests wait less.
    int64_t last_answer_ns_max = Negotiation::kLastAnswerNsMax;
    int64_t drain_stall_ns_max = Session::kDrainStallNs;
  };
  /// kInvalidArgument when a number of threads or a name is out of range; kSystem when the engine
  /// cannot be had.
  static Result<std::shared_ptr<Plane>> Create(Options options, EventSink sink);
  /// Suspends what ended leases cover, in every plane: a lease does not know who serves under it.
  static void EnforceAllLeases(int64_t now_ns);
  /// Null when there is no such plane any more.
  static std::shared_ptr<Plane> Find(uint32_t id);
  ~Plane();

  uint32_t id() const { return id_; }
  const std::string& xts_kernel() const { return options_.xts_kernel; }
  const EngineChoice& engine() const { return engine_; }

  /// Runs a shard on the calling thread until Stop (ok) or until it dies (the error).
  Status RunShard(uint32_t index);
  /// Tells every shard to stop, shuts the listeners, wipes every disk's key. Idempotent; does not
  /// wait.
  void Stop();
  void FailShardForTest(uint32_t index);
  /// The shard does nothing at all for that long.
  void StallShardForTest(uint32_t index, int64_t duration_ns);
  /// Of every slot, how often its shard's timer has fired, over all its runs: a count that stands
  /// still over many times Shard::kTickNs is that of a shard that is stuck or not running.
  std::vector<uint64_t> ShardTicks() const;
  /// Of every slot, the processor time of its shards' threads while they ran there, in ns, as of
  /// the last tick. Busy polling counts.
  std::vector<uint64_t> ShardCpuNs() const;
  uint32_t running_shards() const;

  /// Returns the listener's id.
  Result<uint32_t> ListenUnix(const std::string& path, uint32_t mode);
  struct TcpListener {
    uint32_t id;
    uint16_t port;
  };
  Result<TcpListener> ListenTcp(const std::string& host, uint16_t port);
  /// Takes over a listening socket that the process inherited (ClaimListeningFd). On error the
  /// descriptor stays the caller's.
  Result<uint32_t> AdoptListener(int fd);
  void CloseListener(uint32_t listener_id);
  /// Listener of connections that came another way.
  static constexpr uint32_t kNoListener = 0;
  /// Serves a connected socket under a duplicate of its descriptor, which the caller keeps and must
  /// not read from any more. Sends `greeting` first (what the protocol before NBD still owes);
  /// it must fit into the socket's buffer. Returns the connection's id. kInvalidArgument, kSystem,
  /// kState when a limit is reached, kClosed; on an error the greeting may have been sent.
  Result<uint32_t> TakeConnection(int fd, std::span<const uint8_t> greeting);

  void Respond(uint32_t connection_id, std::vector<uint8_t> send, NextStep next);
  /// In negotiation or in transmission. Unknown ids are ignored.
  void CloseConnection(uint32_t connection_id);
  struct ConnectionInfo {
    uint32_t id;
    uint32_t shard;
    PeerAddress peer;
    uint32_t disk_id;
    int64_t connected_ns;
    uint32_t in_flight;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t requests;
    std::shared_ptr<const TlsFacts> tls;  // null in clear
  };
  std::vector<ConnectionInfo> Connections() const;

  /// Files are read on the calling thread. Returns the context's id, for NextStep.
  Result<uint32_t> CreateTlsContext(const TlsContextOptions& options);
  /// Handshakes from now on use what is read now; on error everything stays as it is. Connections
  /// that are there go on with what they began with.
  Status ReplaceTlsContext(uint32_t context_id, const TlsContextOptions& options);

  struct DiskOptions {
    std::string name;
    DiskGeometry geometry;
    bool lease_enforced = true;
    bool direct = false;  // DirectIo::required
    // Tests wait less, and fill less.
    int64_t drain_ns_max = Disk::kDrainNsMax;
    int64_t hold_ns_max = Disk::kHoldNsMax;
    uint64_t in_flight_bytes_max = Disk::kInFlightBytesMax;
  };
  /// Opens the store of a file or block device; the disk begins locked. StoreBuffered follows if a
  /// block device goes through the page cache.
  Result<std::shared_ptr<Disk>> OpenDisk(DiskOptions options, const std::string& store_path,
                                         std::shared_ptr<const Lease> lease);
  Result<std::shared_ptr<Disk>> AddDisk(DiskOptions options, std::unique_ptr<Store> store,
                                        std::shared_ptr<const Lease> lease);
  /// After Disk::Close.
  void RemoveDisk(uint32_t disk_id);
  std::shared_ptr<Disk> FindDisk(uint32_t disk_id) const;

  /// Bytes of pooled buffers that are in use by requests and sessions, over all shards.
  uint64_t buffer_bytes() const;

  // For shards.
  const Options& options() const { return options_; }
  /// Null when there are none.
  CipherThreads* cipher_threads() { return cipher_threads_.get(); }
  Counter& buffer_bytes_of(uint32_t shard) { return slots_[shard]->buffer_bytes; }
  /// On the shard's own thread.
  void NoteTick(uint32_t shard);
  void Welcome(UniqueFd socket, const ListeningSocket& listener);
  void Forget(const ConnectionRecord& record);
  void NoteTls(ConnectionRecord& record, TlsFacts facts);
  /// Every shard's timer: whatever a lease ends, ends here.
  void EnforceLeases(int64_t now_ns);
  void Broadcast(const std::shared_ptr<DiskOrder>& order) override;
  void Flush(std::unique_ptr<FlushJob> job) override;
  void Emit(Event event) override { sink_(std::move(event)); }
  void Enlist(const Lease& lease, const std::shared_ptr<Disk>& disk) override;
  void Delist(const Lease& lease, uint32_t disk_id) override;

 private:
  struct Slot {
    Mailbox mailbox;
    std::atomic<uint32_t> connections{0};
    Counter buffer_bytes;
    Counter ticks;
    Counter cpu_ns;
    uint64_t cpu_noted_ns = 0;  // of the thread that runs the shard, and touched by it alone
    bool running = false;       // guarded by Plane::mutex_
  };
  struct ListenerEntry {
    std::shared_ptr<ListeningSocket> listener;
    int shard = -1;  // where it accepts; -1: nowhere
  };

  Plane(Options options, EngineChoice engine, EventSink sink);
  static Error StoppedError(const std::string& operation);
  uint32_t AddListener(std::shared_ptr<ListeningSocket> listener);
  void PlaceListeners();
  void LeaveSlot(uint32_t index);
  void DelistLocked(const Lease* lease, uint32_t disk_id);
  int LeastLoaded() const;
  Result<uint32_t> Admit(UniqueFd socket, uint32_t listener_id, PeerAddress peer);
  std::string WhyRefused(const std::string& peer_key) const;

  const uint32_t id_;
  const Options options_;
  const EngineChoice engine_;
  const EventSink sink_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::atomic<bool> stopped_{false};

  mutable std::mutex mutex_;  // guards every member below and Slot::running
  uint32_t next_listener_id_ = 1;
  uint32_t next_connection_id_ = 1;
  uint32_t next_disk_id_ = 1;
  int64_t refusal_told_ns_ = 0;  // when the last ConnectionRefused was emitted
  uint32_t next_tls_context_id_ = 1;
  std::map<uint32_t, std::shared_ptr<const TlsContext>> tls_contexts_;
  std::map<uint32_t, ListenerEntry> listeners_;
  std::map<uint32_t, std::shared_ptr<ConnectionRecord>> connections_;
  std::map<uint32_t, std::shared_ptr<Disk>> disks_;
  /// Of these, the ones whose lease is enforced, by their lease, which they keep alive. While a
  /// disk changes its lease it stands under both.
  std::map<const Lease*, std::map<uint32_t, std::shared_ptr<Disk>>> leased_;

  std::unique_ptr<CipherThreads> cipher_threads_;  // first to go: they post to the mailboxes
};

}  // namespace keyhold

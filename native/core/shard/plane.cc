// SPDX-License-Identifier: Apache-2.0
#include "core/shard/plane.h"

#include <time.h>

#include <optional>
#include <utility>

#include "core/shard/shard.h"
#include "core/xts/cipher.h"

namespace keyhold {
namespace {

struct Registry {
  std::mutex mutex;  // guards the members below
  uint32_t next_id = 1;
  std::map<uint32_t, std::weak_ptr<Plane>> planes;
};

/// Never destroyed: worker threads may still look up a plane while the process exits.
Registry& TheRegistry() {
  static auto* registry = new Registry();
  return *registry;
}

uint32_t NextPlaneId() {
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  return registry.next_id++;
}

Status CheckKernel(const std::string& name) {
  std::string known = "auto";
  for (std::string_view kernel : xts::AvailableKernels()) {
    if (name == kernel) return Ok();
    known.append(", ").append(kernel);
  }
  if (name == "auto") return Ok();
  return Error{
      ErrorCode::kInvalidArgument, 0,
      "create the data plane with the cipher kernel \"" + name + "\": this machine runs " + known};
}

/// Of the calling thread. A real system call, so nothing for each request.
uint64_t ThreadCpuNs() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Plane::Plane(Options options, EngineChoice engine, EventSink sink)
    : id_(NextPlaneId()),
      options_(std::move(options)),
      engine_(std::move(engine)),
      sink_(std::move(sink)) {
  for (uint32_t i = 0; i < options_.shards; ++i) slots_.push_back(std::make_unique<Slot>());
  if (options_.cipher_threads > 0) {
    cipher_threads_ = std::make_unique<CipherThreads>(options_.shards, options_.cipher_threads);
  }
}

Result<std::shared_ptr<Plane>> Plane::Create(Options options, EventSink sink) {
  if (options.shards < 1 || options.shards > KeyGuard::kShardsMax) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "create the data plane with " + std::to_string(options.shards) + " shards: 1 to " +
                     std::to_string(KeyGuard::kShardsMax) + " are possible"};
  }
  if (options.cipher_threads > CipherThreads::kThreadsMax) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "create the data plane with " + std::to_string(options.cipher_threads) +
                     " cipher threads: 0 to " + std::to_string(CipherThreads::kThreadsMax) +
                     " are possible"};
  }
  Status kernel = CheckKernel(options.xts_kernel);
  if (!kernel) return kernel.error();
  Result<EngineChoice> engine = ChooseEngine(options.engine, options.shards);
  if (!engine) return engine.error();
  std::shared_ptr<Plane> plane(new Plane(std::move(options), engine.Take(), std::move(sink)));
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  registry.planes[plane->id_] = plane;
  return plane;
}

std::shared_ptr<Plane> Plane::Find(uint32_t id) {
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  auto found = registry.planes.find(id);
  return found == registry.planes.end() ? nullptr : found->second.lock();
}

void Plane::EnforceAllLeases(int64_t now_ns) {
  std::vector<std::shared_ptr<Plane>> planes;
  {
    Registry& registry = TheRegistry();
    std::lock_guard lock(registry.mutex);
    for (auto& [id, weak] : registry.planes) {
      if (std::shared_ptr<Plane> plane = weak.lock()) planes.push_back(std::move(plane));
    }
  }
  for (const std::shared_ptr<Plane>& plane : planes) plane->EnforceLeases(now_ns);
}

Error Plane::StoppedError(const std::string& operation) {
  return Error{ErrorCode::kClosed, 0, operation + ": the data plane is stopped"};
}

Plane::~Plane() {
  Stop();
  Registry& registry = TheRegistry();
  std::lock_guard lock(registry.mutex);
  registry.planes.erase(id_);
}

Status Plane::RunShard(uint32_t index) {
  if (index >= slots_.size()) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "run shard " + std::to_string(index) + ": the plane has " +
                     std::to_string(slots_.size()) + " shards"};
  }
  Slot& slot = *slots_[index];
  {
    std::lock_guard lock(mutex_);
    if (slot.running) {
      return Error{ErrorCode::kState, 0,
                   "run shard " + std::to_string(index) + ": it runs already"};
    }
    if (stopped_) return Ok();
    slot.running = true;
    slot.mailbox.Open();
    PlaceListeners();
  }
  slot.buffer_bytes.Set(0);
  slot.cpu_noted_ns = ThreadCpuNs();
  Status result = Shard::Run(*this, index, slot.mailbox);
  LeaveSlot(index);
  if (!result) Emit(ShardDied{index, result.error().message});
  return result;
}

void Plane::LeaveSlot(uint32_t index) {
  Slot& slot = *slots_[index];
  slot.mailbox.Close();
  std::vector<std::shared_ptr<ConnectionRecord>> lost;
  {
    std::lock_guard lock(mutex_);
    slot.running = false;
    for (auto& [id, entry] : listeners_) {
      if (entry.shard == static_cast<int>(index)) entry.shard = -1;
    }
    PlaceListeners();
    // Connections whose hand-over was still in the mailbox went with it.
    for (auto& [id, record] : connections_) {
      if (record->shard == index) lost.push_back(record);
    }
    for (auto& [id, disk] : disks_) disk->counters(index).ResetGauges();
  }
  for (const std::shared_ptr<ConnectionRecord>& record : lost) {
    Forget(*record);
    Emit(ConnectionClosed{record->id, 0, "its shard ended"});
  }
}

void Plane::Stop() {
  std::vector<std::shared_ptr<Disk>> disks;
  {
    std::lock_guard lock(mutex_);
    if (stopped_.exchange(true)) return;
    for (auto& [id, entry] : listeners_) entry.listener->Shut();
    listeners_.clear();
    for (auto& [id, disk] : disks_) disks.push_back(disk);
  }
  for (const std::shared_ptr<Disk>& disk : disks) disk->WipeForGood();
  for (std::unique_ptr<Slot>& slot : slots_) slot->mailbox.Post(StopShard{});
}

void Plane::FailShardForTest(uint32_t index) {
  if (index < slots_.size()) slots_[index]->mailbox.Post(FailShard{});
}

void Plane::StallShardForTest(uint32_t index, int64_t duration_ns) {
  if (index < slots_.size()) slots_[index]->mailbox.Post(StallShard{duration_ns});
}

void Plane::NoteTick(uint32_t shard) {
  Slot& slot = *slots_[shard];
  slot.ticks.Add(1);
  const uint64_t now_ns = ThreadCpuNs();
  slot.cpu_ns.Add(now_ns - slot.cpu_noted_ns);
  slot.cpu_noted_ns = now_ns;
}

std::vector<uint64_t> Plane::ShardCpuNs() const {
  std::vector<uint64_t> times;
  times.reserve(slots_.size());
  for (const std::unique_ptr<Slot>& slot : slots_) times.push_back(slot->cpu_ns.Get());
  return times;
}

std::vector<uint64_t> Plane::ShardTicks() const {
  std::vector<uint64_t> ticks;
  ticks.reserve(slots_.size());
  for (const std::unique_ptr<Slot>& slot : slots_) ticks.push_back(slot->ticks.Get());
  return ticks;
}

uint32_t Plane::running_shards() const {
  std::lock_guard lock(mutex_);
  uint32_t running = 0;
  for (const std::unique_ptr<Slot>& slot : slots_) running += slot->running ? 1 : 0;
  return running;
}

Result<uint32_t> Plane::ListenUnix(const std::string& path, uint32_t mode) {
  if (stopped_) return StoppedError("listen on " + path);
  Result<std::shared_ptr<ListeningSocket>> listener = OpenUnixListener(path, mode);
  if (!listener) return listener.error();
  return AddListener(listener.Take());
}

Result<Plane::TcpListener> Plane::ListenTcp(const std::string& host, uint16_t port) {
  if (stopped_) return StoppedError("listen on tcp " + host + " port " + std::to_string(port));
  Result<std::shared_ptr<ListeningSocket>> listener = OpenTcpListener(host, port);
  if (!listener) return listener.error();
  const uint16_t bound = listener.value()->port;
  return TcpListener{AddListener(listener.Take()), bound};
}

Result<uint32_t> Plane::AdoptListener(int fd) {
  if (stopped_) return StoppedError("take over fd " + std::to_string(fd));
  Result<std::shared_ptr<ListeningSocket>> listener = keyhold::AdoptListener(fd);
  if (!listener) return listener.error();
  return AddListener(listener.Take());
}

uint32_t Plane::AddListener(std::shared_ptr<ListeningSocket> listener) {
  std::lock_guard lock(mutex_);
  const uint32_t id = next_listener_id_++;
  listener->id = id;
  if (stopped_) {
    listener->Shut();
    return id;
  }
  listeners_[id] = {std::move(listener), -1};
  PlaceListeners();
  return id;
}

/// Gives every listener that accepts nowhere to a running shard.
void Plane::PlaceListeners() {
  for (auto& [id, entry] : listeners_) {
    if (entry.shard >= 0) continue;
    const int shard = LeastLoaded();
    if (shard < 0) return;
    if (slots_[static_cast<size_t>(shard)]->mailbox.Post(StartAccepting{entry.listener})) {
      entry.shard = shard;
    }
  }
}

int Plane::LeastLoaded() const {
  int best = -1;
  uint32_t best_connections = UINT32_MAX;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (!slots_[i]->running || !slots_[i]->mailbox.open()) continue;
    const uint32_t connections = slots_[i]->connections.load();
    if (connections < best_connections) {
      best = static_cast<int>(i);
      best_connections = connections;
    }
  }
  return best;
}

void Plane::CloseListener(uint32_t listener_id) {
  std::lock_guard lock(mutex_);
  auto found = listeners_.find(listener_id);
  if (found == listeners_.end()) return;
  found->second.listener->Shut();
  if (found->second.shard >= 0) {
    slots_[static_cast<size_t>(found->second.shard)]->mailbox.Post(StopAccepting{listener_id});
  }
  listeners_.erase(found);
}

void Plane::Forget(const ConnectionRecord& record) {
  std::lock_guard lock(mutex_);
  if (connections_.erase(record.id) == 1) slots_[record.shard]->connections.fetch_sub(1);
}

void Plane::Respond(uint32_t connection_id, std::vector<uint8_t> send, NextStep next) {
  std::lock_guard lock(mutex_);
  auto found = connections_.find(connection_id);
  if (found == connections_.end()) return;
  if (next.kind == NextStep::Kind::kStartTls) {
    const auto context = tls_contexts_.find(next.tls_context_id);
    if (context != tls_contexts_.end()) next.tls_context = context->second;
  }
  slots_[found->second->shard]->mailbox.Post(
      AnswerNegotiation{connection_id, std::move(send), std::move(next)});
}

void Plane::CloseConnection(uint32_t connection_id) {
  std::lock_guard lock(mutex_);
  auto found = connections_.find(connection_id);
  if (found == connections_.end()) return;
  slots_[found->second->shard]->mailbox.Post(keyhold::CloseConnection{connection_id});
}

std::vector<Plane::ConnectionInfo> Plane::Connections() const {
  std::lock_guard lock(mutex_);
  std::vector<ConnectionInfo> all;
  all.reserve(connections_.size());
  for (const auto& [id, record] : connections_) {
    all.push_back({id, record->shard, record->peer, record->disk_id.load(), record->connected_ns,
                   record->in_flight.load(), record->bytes_in.Get(), record->bytes_out.Get(),
                   record->requests.Get(), record->tls});
  }
  return all;
}

Result<uint32_t> Plane::CreateTlsContext(const TlsContextOptions& options) {
  Result<std::shared_ptr<const TlsContext>> context = TlsContext::Load(options);
  if (!context) return context.error();
  std::lock_guard lock(mutex_);
  const uint32_t id = next_tls_context_id_++;
  tls_contexts_[id] = context.Take();
  return id;
}

Status Plane::ReplaceTlsContext(uint32_t context_id, const TlsContextOptions& options) {
  Result<std::shared_ptr<const TlsContext>> context = TlsContext::Load(options);
  if (!context) return context.error();
  std::lock_guard lock(mutex_);
  const auto found = tls_contexts_.find(context_id);
  if (found == tls_contexts_.end()) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "replace tls context " + std::to_string(context_id) + ": there is none"};
  }
  found->second = context.Take();
  return Ok();
}

void Plane::NoteTls(ConnectionRecord& record, TlsFacts facts) {
  auto shared = std::make_shared<const TlsFacts>(std::move(facts));
  std::lock_guard lock(mutex_);
  record.tls = std::move(shared);
}

void Plane::Broadcast(const std::shared_ptr<DiskOrder>& order) {
  for (std::unique_ptr<Slot>& slot : slots_) {
    slot->mailbox.Post(CarryOutOrder{DiskOrder::Share(order)});
  }
}

void Plane::Flush(std::unique_ptr<FlushJob> job) {
  for (std::unique_ptr<Slot>& slot : slots_) {
    if (!slot->mailbox.open()) continue;
    // A mailbox that closes just now drops the job, which reports that itself.
    slot->mailbox.Post(FlushStore{std::move(job)});
    return;
  }
}

}  // namespace keyhold

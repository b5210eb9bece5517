// SPDX-License-Identifier: Apache-2.0
#include "test/plane_fixture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <random>

#include "core/store/file_store.h"
#include "core/xts/cipher.h"

namespace keyhold::test {

TempDirectory::TempDirectory(const std::string& parent) {
  const std::filesystem::path where =
      parent.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(parent);
  std::string name = (where / "keyhold-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void FaultStore::Start(Ring& ring, StoreOp& op) {
  if (watch_) watch_(op);
  Ask(ring, op);
}

void FaultStore::Ask(Ring& ring, StoreOp& op) {
  const Verdict verdict = hook_ ? hook_(op) : Verdict{};
  if (verdict.errno_value == 0 && !verdict.wait) {
    StartOn(*inner_, ring, op);
    return;
  }
  {
    std::lock_guard lock(mutex_);
    held_.push_back(&op);
  }
  if (verdict.wait) {
    ring.Timeout(op, &pause_);
  } else {
    ring.Nop(op);
  }
}

std::optional<int32_t> FaultStore::RunNow(StoreOp& op) {
  if (!now_hook_) return std::nullopt;
  const int errno_value = now_hook_(op);
  return errno_value == 0 ? RunNowOn(*inner_, op) : -errno_value;
}

void FaultStore::Continue(Ring& ring, StoreOp& op, int32_t result) {
  bool ours = false;
  {
    std::lock_guard lock(mutex_);
    ours = std::erase(held_, &op) > 0;
  }
  if (ours && result == -ETIME) {
    Ask(ring, op);
    return;
  }
  const Verdict verdict = hook_ ? hook_(op) : Verdict{};
  if (ours || verdict.errno_value != 0) {
    Complete(op, -verdict.errno_value);
    return;
  }
  if (verdict.shorten && result > 1) result /= 2;
  ContinueOn(*inner_, ring, op, result);
}

TestPlane::TestPlane(uint32_t shards, int64_t drain_stall_ns_max, uint32_t cipher_threads) {
  Plane::Options options{shards, "auto"};
  options.engine = engine_under_test;
  options.drain_stall_ns_max = drain_stall_ns_max;
  options.cipher_threads = cipher_threads;
  plane_ =
      Plane::Create(std::move(options), [this](Event event) { OnEvent(std::move(event)); }).Take();
  lease_->Renew(BootTimeNs(), 3'600'000'000'000);
  for (uint32_t i = 0; i < shards; ++i) RunShardAgain(i);
  EXPECT_TRUE(Eventually([&] { return plane_->running_shards() == shards; }));
}

TestPlane::~TestPlane() { Stop(); }

void TestPlane::Stop() {
  plane_->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void TestPlane::RunShardAgain(uint32_t index) {
  threads_.emplace_back([plane = plane_, index] { (void)plane->RunShard(index); });
}

void TestPlane::OnEvent(Event event) {
  if (const auto* open = std::get_if<NegotiationOpen>(&event)) {
    NextStep next = StepFor(open->listener_id, false);
    Bytes answer;
    if (next.kind == NextStep::Kind::kStartTls) {
      answer = {kStartTlsAnswer};
      std::lock_guard lock(mutex_);
      listener_of_[open->connection_id] = open->listener_id;
    }
    const bool silent = next.kind == NextStep::Kind::kClose && answer_nothing_;
    if (!silent) plane_->Respond(open->connection_id, answer, std::move(next));
  } else if (const auto* tls = std::get_if<NegotiationTls>(&event)) {
    std::unique_lock lock(mutex_);
    const uint32_t listener_id = listener_of_[tls->connection_id];
    lock.unlock();
    plane_->Respond(tls->connection_id, {}, StepFor(listener_id, true));
  }
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  arrived_.notify_all();
}

NextStep TestPlane::StepFor(uint32_t listener_id, bool in_tls) {
  NextStep next;
  std::lock_guard lock(mutex_);
  for (const auto& [listener, target] : targets_) {
    if (listener != listener_id) continue;
    if (target.tls_context_id != 0 && !in_tls) {
      next.kind = NextStep::Kind::kStartTls;
      next.tls_context_id = target.tls_context_id;
      break;
    }
    next.kind = NextStep::Kind::kTransmission;
    next.disk_id = target.disk_id;
    next.agreed = target.agreed;
    next.leftover = target.leftover;
  }
  return next;
}

size_t TestPlane::CountEvents(std::function<bool(const Event&)> wanted) {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(events_.begin(), events_.end(), wanted));
}

std::shared_ptr<Disk> TestPlane::AddDisk(DiskSetup setup, std::shared_ptr<Lease> lease) {
  const TempDirectory& directory = setup.in_memory ? memory_ : directory_;
  const std::string path = directory.File("store" + std::to_string(files_++));
  const uint64_t store_bytes = setup.data_offset_bytes + setup.size_bytes;
  std::ofstream(path).flush();
  std::filesystem::resize_file(path, store_bytes);
  Result<std::unique_ptr<FileStore>> file = FileStore::Open(path, setup.read_only, store_bytes);
  EXPECT_TRUE(file.ok());
  std::unique_ptr<Store> store = file.Take();
  if (setup.hook || setup.watch || setup.now_hook) {
    store = std::make_unique<FaultStore>(std::move(store), setup.hook, setup.watch, setup.now_hook);
  }
  Plane::DiskOptions options;
  options.name = path;
  options.geometry = {setup.size_bytes, setup.sector_size_bytes, setup.data_offset_bytes,
                      setup.read_only, setup.holes};
  options.lease_enforced = setup.lease_enforced;
  options.drain_ns_max = setup.drain_ns_max;
  options.hold_ns_max = setup.hold_ns_max;
  options.in_flight_bytes_max = setup.in_flight_bytes_max;
  std::shared_ptr<Disk> disk =
      plane_->AddDisk(options, std::move(store), lease ? lease : lease_).Take();
  if (setup.unlocked) {
    EXPECT_TRUE(Unlock(*disk).ok());
  }
  return disk;
}

std::string TestPlane::StorePath(const Disk& disk) const { return disk.name(); }

std::string TestPlane::Listen(const std::shared_ptr<Disk>& disk, wire::Agreed agreed,
                              Bytes leftover, uint32_t tls_context_id) {
  std::lock_guard lock(mutex_);
  const std::string path = directory_.File("nbd" + std::to_string(targets_.size()));
  Result<uint32_t> listener = plane_->ListenUnix(path, 0600);
  EXPECT_TRUE(listener.ok());
  targets_.emplace_back(listener.value(),
                        Target{disk->id(), agreed, std::move(leftover), tls_context_id});
  return path;
}

Client TestPlane::Connect(const std::shared_ptr<Disk>& disk, bool structured, Bytes leftover) {
  wire::Agreed agreed;
  if (structured) agreed.replies = wire::Replies::kStructured;
  return Connect(disk, agreed, std::move(leftover));
}

Client TestPlane::Connect(const std::shared_ptr<Disk>& disk, wire::Agreed agreed, Bytes leftover) {
  const std::string path = Listen(disk, agreed, std::move(leftover));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return Client(std::move(socket), agreed);
}

std::array<uint8_t, 64> TestDek() {
  std::array<uint8_t, 64> dek{};
  for (size_t i = 0; i < dek.size(); ++i) dek[i] = static_cast<uint8_t>(i * 7 + 3);
  return dek;
}

std::unique_ptr<xts::Cipher> TestCipher(uint32_t sector_size_bytes) {
  return xts::CreateCipher("auto", TestDek(), sector_size_bytes).Take();
}

Status Unlock(Disk& disk) { return disk.Unlock(TestCipher(disk.geometry().sector_size_bytes)); }

Bytes OracleEncrypt(std::span<const uint8_t> sector, uint64_t unit) {
  const std::array<uint8_t, 64> dek = TestDek();
  std::array<uint8_t, 16> tweak{};
  for (size_t i = 0; i < 8; ++i) tweak[i] = static_cast<uint8_t>(unit >> (8 * i));
  Bytes out(sector.size());
  int length = 0;
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  EVP_EncryptInit_ex(context, EVP_aes_256_xts(), nullptr, dek.data(), tweak.data());
  EVP_EncryptUpdate(context, out.data(), &length, sector.data(), static_cast<int>(sector.size()));
  EVP_CIPHER_CTX_free(context);
  return out;
}

SuspendReceipt Suspend(Disk& disk) {
  auto done = std::make_shared<std::promise<SuspendReceipt>>();
  EXPECT_TRUE(disk.Suspend([done](SuspendReceipt receipt) { done->set_value(receipt); }).ok());
  return done->get_future().get();
}

OfflineReceipt GoOffline(Disk& disk) {
  auto done = std::make_shared<std::promise<OfflineReceipt>>();
  EXPECT_TRUE(disk.GoOffline([done](OfflineReceipt receipt) { done->set_value(receipt); }).ok());
  return done->get_future().get();
}

uint64_t Sum(const Disk& disk, const std::function<const Counter&(const ShardCounters&)>& pick) {
  uint64_t sum = 0;
  for (const ShardCounters& counters : disk.counters()) sum += pick(counters).Get();
  return sum;
}

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 500; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

Bytes Pattern(size_t length, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(length);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

Bytes ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

}  // namespace keyhold::test

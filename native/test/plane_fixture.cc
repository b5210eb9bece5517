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

TempDirectory::TempDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "keyhold-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void FaultStore::Start(Ring& ring, StoreOp& op) {
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

void FaultStore::Continue(Ring& ring, StoreOp& op, int32_t result) {
  bool ours = false;
  {
    std::lock_guard lock(mutex_);
    ours = std::erase(held_, &op) > 0;
  }
  if (ours && result == -ETIME) {
    Start(ring, op);
    return;
  }
  const Verdict verdict = hook_ ? hook_(op) : Verdict{};
  if (ours) {
    Complete(op, -verdict.errno_value);
    return;
  }
  if (verdict.shorten && result > 1) result /= 2;
  ContinueOn(*inner_, ring, op, result);
}

void Client::SendRaw(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // the test sees it when it waits for the reply
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

uint64_t Client::SendRequest(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                             std::span<const uint8_t> payload) {
  const uint64_t cookie = next_cookie_++;
  Bytes bytes(wire::kRequestBytes + payload.size());
  uint8_t* to = wire::Store32(bytes.data(), wire::kRequestMagic);
  to = wire::Store16(to, flags);
  to = wire::Store16(to, type);
  to = wire::Store64(to, cookie);
  to = wire::Store64(to, offset);
  to = wire::Store32(to, length);
  std::copy(payload.begin(), payload.end(), to);
  if (type == wire::kRead) reads_.emplace_back(cookie, length);
  SendRaw(bytes);
  return cookie;
}

bool Client::ReceiveExactly(std::span<uint8_t> into) {
  while (!into.empty()) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, 20'000) <= 0) {
      ADD_FAILURE() << "no reply within 20 s";
      return false;
    }
    ssize_t got = ::recv(socket_.get(), into.data(), into.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<size_t>(got));
  }
  return true;
}

std::optional<Reply> Client::Receive() {
  std::array<uint8_t, wire::kStructuredReplyBytes> head{};
  if (!ReceiveExactly(std::span(head).first(wire::kSimpleReplyBytes))) return {};
  Reply reply;
  if (wire::Load32(head.data()) == wire::kSimpleReplyMagic) {
    reply.error = wire::Load32(head.data() + 4);
    reply.cookie = wire::Load64(head.data() + 8);
    auto read = std::find_if(reads_.begin(), reads_.end(),
                             [&](const auto& one) { return one.first == reply.cookie; });
    if (read != reads_.end()) {
      EXPECT_FALSE(structured_) << "a read was answered by a simple reply";
      if (reply.error == 0) {
        reply.data.resize(read->second);
        if (!ReceiveExactly(reply.data)) return {};
      }
    }
    return reply;
  }
  EXPECT_EQ(wire::Load32(head.data()), wire::kStructuredReplyMagic);
  EXPECT_TRUE(structured_);
  if (!ReceiveExactly(std::span(head).subspan(wire::kSimpleReplyBytes))) return {};
  EXPECT_EQ(wire::Load16(head.data() + 4), wire::kChunkDone);
  reply.structured = true;
  reply.chunk = wire::Load16(head.data() + 6);
  reply.cookie = wire::Load64(head.data() + 8);
  Bytes body(wire::Load32(head.data() + 16));
  if (!ReceiveExactly(body)) return {};
  if (reply.chunk == wire::kChunkOffsetData) {
    reply.data.assign(body.begin() + 8, body.end());
  } else if (reply.chunk == wire::kChunkError) {
    reply.error = wire::Load32(body.data());
    EXPECT_EQ(body.size(), 6U + wire::Load16(body.data() + 4));
    reply.text.assign(body.begin() + 6, body.end());
  }
  return reply;
}

Reply Client::Do(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length,
                 std::span<const uint8_t> payload) {
  const uint64_t cookie = SendRequest(type, flags, offset, length, payload);
  std::optional<Reply> reply = Receive();
  if (!reply) {
    ADD_FAILURE() << "the connection ended instead of a reply";
    return {};
  }
  EXPECT_EQ(reply->cookie, cookie);
  return *reply;
}

Bytes Client::Read(uint64_t offset, uint32_t length) {
  Reply reply = Do(wire::kRead, 0, offset, length);
  EXPECT_EQ(reply.error, 0U);
  return reply.data;
}

void Client::Write(uint64_t offset, std::span<const uint8_t> bytes, uint16_t flags) {
  EXPECT_EQ(Do(wire::kWrite, flags, offset, static_cast<uint32_t>(bytes.size()), bytes).error, 0U);
}

bool Client::Silent(int ms) {
  pollfd waiting{socket_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, ms) == 0;
}

bool Client::AtEnd() {
  uint8_t byte = 0;
  pollfd waiting{socket_.get(), POLLIN, 0};
  if (::poll(&waiting, 1, 20'000) <= 0) return false;
  return ::recv(socket_.get(), &byte, 1, 0) <= 0;
}

TestPlane::TestPlane(uint32_t shards) {
  Result<std::shared_ptr<Plane>> plane =
      Plane::Create({shards, "auto"}, [this](Event event) { OnEvent(std::move(event)); });
  plane_ = plane.Take();
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
    NextStep next;
    {
      std::lock_guard lock(mutex_);
      for (const auto& [listener, target] : targets_) {
        if (listener != open->listener_id) continue;
        next.kind = NextStep::Kind::kTransmission;
        next.disk_id = target.disk_id;
        next.agreed.replies =
            target.structured ? wire::Replies::kStructured : wire::Replies::kSimple;
        next.leftover = target.leftover;
      }
    }
    const bool answer = next.kind != NextStep::Kind::kClose || !answer_nothing_;
    if (answer) plane_->Respond(open->connection_id, {}, std::move(next));
  }
  std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
  arrived_.notify_all();
}

size_t TestPlane::CountEvents(std::function<bool(const Event&)> wanted) {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count_if(events_.begin(), events_.end(), wanted));
}

std::shared_ptr<Disk> TestPlane::AddDisk(DiskSetup setup, std::shared_ptr<Lease> lease) {
  const std::string path = directory_.File("store" + std::to_string(files_++));
  const uint64_t store_bytes = setup.data_offset_bytes + setup.size_bytes;
  std::ofstream(path).flush();
  std::filesystem::resize_file(path, store_bytes);
  Result<std::unique_ptr<FileStore>> file = FileStore::Open(path, setup.read_only, store_bytes);
  EXPECT_TRUE(file.ok());
  std::unique_ptr<Store> store = file.Take();
  if (setup.hook) store = std::make_unique<FaultStore>(std::move(store), setup.hook);
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

std::string TestPlane::Listen(const std::shared_ptr<Disk>& disk, bool structured, Bytes leftover) {
  std::lock_guard lock(mutex_);
  const std::string path = directory_.File("nbd" + std::to_string(targets_.size()));
  Result<uint32_t> listener = plane_->ListenUnix(path, 0600);
  EXPECT_TRUE(listener.ok());
  targets_.emplace_back(listener.value(), Target{disk->id(), structured, std::move(leftover)});
  return path;
}

Client TestPlane::Connect(const std::shared_ptr<Disk>& disk, bool structured, Bytes leftover) {
  const std::string path = Listen(disk, structured, std::move(leftover));
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return Client(std::move(socket), structured);
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

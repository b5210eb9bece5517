// SPDX-License-Identifier: Apache-2.0
//
// Instructions of the data plane per request, for callgrind: a figure without noise where the clock
// has much of it. This program is the client; the server, a plane with one shard, is this program
// again under valgrind.
//
// What arrives together decides how much work a request is, so that must not depend on timing: the
// client sends each batch of requests with one call and takes all replies before the next, both
// processes share one CPU, and the server (SCHED_BATCH) cannot take it away from a client in the
// middle of a batch.
//
// valgrind 3.19 lets no other thread run while one waits in io_uring_enter. So the server has one
// thread, and counts in its event sink: from the accept of a connection to its end. Each case is
// three connections: a warm-up, one of kBatches, one of twice that; the difference of the last two
// is what kBatches cost without accept, setup and end.
//
// Usage: request_cost DIRECTORY KERNEL DUMPS
// Prints, for each case, requests of the difference and its name. The dumps are in DUMPS.1,
// DUMPS.2, …: two for each case, in order; the warm-ups leave none.
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <valgrind/callgrind.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "bench/nbd_socket.h"
#include "core/disk/lease.h"
#include "core/shard/plane.h"
#include "core/store/file_store.h"
#include "core/xts/cipher.h"

namespace keyhold::bench {
namespace {

constexpr uint64_t kDiskBytes = 16 << 20;
constexpr uint64_t kDataOffsetBytes = 8192;
constexpr uint32_t kSectorBytes = 512;
constexpr uint32_t kWarmUpBatches = 8;
constexpr uint32_t kBatches = 32;
constexpr int64_t kLeaseNs = 3'600'000'000'000;

struct Case {
  const char* name;
  uint16_t type;
  uint32_t length_bytes;
  uint32_t batch;  // requests sent together; what they move fits into a socket's buffer
  bool structured;
};

constexpr std::array kCases = {
    // Hardly any cipher in it: shows the cost of the path itself.
    Case{"512 read, 16 together", wire::kRead, 512, 16, false},
    Case{"512 write, 16 together", wire::kWrite, 512, 16, false},
    Case{"4k read", wire::kRead, 4096, 1, false},
    Case{"4k read, 16 together", wire::kRead, 4096, 16, false},
    Case{"4k read, 16 together, structured", wire::kRead, 4096, 16, true},
    Case{"4k write", wire::kWrite, 4096, 1, false},
    Case{"4k write, 16 together", wire::kWrite, 4096, 16, false},
    Case{"4k write, 16 together, structured", wire::kWrite, 4096, 16, true},
    Case{"128k read", wire::kRead, 128 << 10, 1, false},
    Case{"128k read, structured", wire::kRead, 128 << 10, 1, true},
    Case{"128k write", wire::kWrite, 128 << 10, 1, false},
    Case{"128k write, structured", wire::kWrite, 128 << 10, 1, true},
};

// ---- client

bool RunBatches(int fd, const Case& one, uint32_t count) {
  const bool is_write = one.type == wire::kWrite;
  const size_t payload = is_write ? one.length_bytes : 0;
  std::vector<uint8_t> requests(one.batch * (wire::kRequestBytes + payload), 0x5a);
  const size_t head =
      one.structured && !is_write ? wire::kStructuredReplyBytes + 8 : wire::kSimpleReplyBytes;
  std::vector<uint8_t> replies(one.batch * (head + one.length_bytes - payload));
  uint64_t offset = 0;
  for (uint32_t i = 0; i < count; ++i) {
    uint8_t* at = requests.data();
    for (uint32_t k = 0; k < one.batch; ++k) {
      at = StoreRequest(at, one.type, k, offset, one.length_bytes) + payload;
      offset = (offset + 37 * one.length_bytes) % kDiskBytes;
    }
    if (!WriteExactly(fd, requests) || !ReadExactly(fd, replies)) return false;
  }
  return true;
}

/// The server says one byte when it is ready, and after each connection.
bool WaitForWord(int fd) {
  std::array<uint8_t, 1> word{};
  return ReadExactly(fd, word);
}

bool RunConnection(const std::string& path, const Case& one, uint32_t batches, int words) {
  UniqueFd socket = ConnectUnix(path);
  if (!socket) return false;
  constexpr int kBufferBytes = 1 << 20;  // the system's limit applies: twice 208 KiB on Debian
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  if (!RunBatches(socket.get(), one, batches)) return false;
  socket.Reset();
  return WaitForWord(words);
}

std::string SocketPath(const std::string& directory, bool structured) {
  return directory + (structured ? "/structured" : "/simple");
}

bool RunCase(const std::string& directory, const Case& one, int words) {
  const std::string path = SocketPath(directory, one.structured);
  for (const uint32_t batches : {kWarmUpBatches, kBatches, 2 * kBatches}) {
    if (!RunConnection(path, one, batches, words)) {
      std::fprintf(stderr, "request_cost: %s: the server ended the connection\n", one.name);
      return false;
    }
  }
  std::printf("%u %s\n", kBatches * one.batch, one.name);
  return true;
}

// ---- server

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "request_cost: %s\n", what.c_str());
  std::exit(1);
}

template <typename T>
T Need(Result<T> result, const char* what) {
  if (!result.ok()) Fail(std::string(what) + ": " + result.error().message);
  return result.Take();
}

/// A store of random ciphertext: none of it is a hole.
std::unique_ptr<Store> MakeStore(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  std::vector<uint8_t> block(1 << 20);
  std::minstd_rand random;
  for (uint64_t done = 0; done < kDataOffsetBytes + kDiskBytes; done += block.size()) {
    for (uint8_t& byte : block) byte = static_cast<uint8_t>(1 + random() % 255);
    if (!file || !WriteExactly(file.get(), block)) Fail("cannot write " + path);
  }
  return Need(FileStore::Open(path, false, kDataOffsetBytes + kDiskBytes), "open the store");
}

/// A plane whose every connection is in transmission at once: one listener for each kind of reply.
class Server {
 public:
  Server(const std::string& directory, const std::string& kernel) {
    plane_ = Need(Plane::Create({1, kernel}, [this](Event event) { OnEvent(event); }), "plane");
    const auto lease = std::make_shared<Lease>();
    lease->Renew(BootTimeNs(), kLeaseNs);
    Plane::DiskOptions options;
    options.name = "disk";
    options.geometry = {kDiskBytes, kSectorBytes, kDataOffsetBytes, false, true};
    disk_ = Need(plane_->AddDisk(options, MakeStore(directory + "/store"), lease), "add the disk");
    std::array<uint8_t, xts::kDekBytes> dek{};
    for (size_t i = 0; i < dek.size(); ++i) dek[i] = static_cast<uint8_t>(i * 7 + 3);
    const Status unlocked =
        disk_->Unlock(Need(xts::CreateCipher(kernel, dek, kSectorBytes), "xts"));
    if (!unlocked.ok()) Fail("unlock: " + unlocked.error().message);
    for (const bool structured : {false, true}) {
      const uint32_t id =
          Need(plane_->ListenUnix(SocketPath(directory, structured), 0600), "listen");
      if (structured) structured_listener_ = id;
    }
  }

  /// Until the client kills this process.
  Status Run() {
    SayWord();
    return plane_->RunShard(0);
  }

 private:
  static void SayWord() {
    if (!WriteExactly(STDOUT_FILENO, std::array<uint8_t, 1>{})) Fail("the client is gone");
  }

  void OnEvent(const Event& event) {
    if (const auto* open = std::get_if<NegotiationOpen>(&event)) {
      CALLGRIND_ZERO_STATS;
      NextStep next;
      next.kind = NextStep::Kind::kTransmission;
      next.disk_id = disk_->id();
      if (open->listener_id == structured_listener_) {
        next.agreed.replies = wire::Replies::kStructured;
      }
      plane_->Respond(open->connection_id, {}, std::move(next));
    } else if (std::holds_alternative<ConnectionClosed>(event)) {
      if (connections_++ % 3 != 0) CALLGRIND_DUMP_STATS;
      SayWord();
    }
  }

  std::shared_ptr<Plane> plane_;
  std::shared_ptr<Disk> disk_;
  uint32_t structured_listener_ = 0;
  uint32_t connections_ = 0;
};

// ---- both

/// One CPU for both processes.
void ShareOneCpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(static_cast<size_t>(::sched_getcpu()), &cpus);
  if (::sched_setaffinity(0, sizeof cpus, &cpus) == 0) return;
  std::perror("request_cost: share one CPU");
  std::exit(1);
}

/// The server's process; its standard output is `words`.
pid_t StartServer(const char* program, const std::string& directory, const std::string& kernel,
                  const std::string& dumps, UniqueFd& words) {
  std::array<int, 2> ends{-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) Fail("pipe");
  words.Reset(ends[0]);
  const UniqueFd theirs(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), STDOUT_FILENO);
  std::vector<std::string> words_of_command = {
      "valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=" + dumps,
      program,    "--serve", directory,          kernel};
  std::vector<char*> argv;
  for (std::string& word : words_of_command) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int result = ::posix_spawnp(&child, "valgrind", &actions, nullptr, argv.data(), environ);
  if (result != 0) Fail(std::string("start valgrind: ") + std::strerror(result));
  ::posix_spawn_file_actions_destroy(&actions);
  return child;
}

int RunClient(const char* program, const std::string& directory, const std::string& kernel,
              const std::string& dumps) {
  ShareOneCpu();
  UniqueFd words;
  const pid_t server = StartServer(program, directory, kernel, dumps, words);
  bool ok = WaitForWord(words.get());
  for (const Case& one : kCases) ok = ok && RunCase(directory, one, words.get());
  // Nothing milder reaches a process of valgrind 3.19 that waits in io_uring_enter.
  ::kill(server, SIGKILL);
  ::waitpid(server, nullptr, 0);
  return ok ? 0 : 1;
}

int RunServer(const std::string& directory, const std::string& kernel) {
  const sched_param none{};
  if (::sched_setscheduler(0, SCHED_BATCH, &none) != 0) Fail("set the scheduling class");
  Server server(directory, kernel);
  const Status status = server.Run();
  if (!status.ok()) Fail("the shard: " + status.error().message);
  return 0;
}

}  // namespace
}  // namespace keyhold::bench

int main(int argc, char** argv) {
  using namespace keyhold::bench;
  if (argc == 4 && std::string(argv[1]) == "--serve") return RunServer(argv[2], argv[3]);
  if (argc == 4) return RunClient(argv[0], argv[1], argv[2], argv[3]);
  std::fprintf(stderr, "usage: request_cost DIRECTORY KERNEL DUMPS\n");
  return 2;
}

// SPDX-License-Identifier: Apache-2.0
//
// A client that costs next to nothing, so that a server with several shards is the limit even where
// both share two cores: it reads and moves the replies from the socket through a pipe to /dev/null
// (splice), so that no byte is copied on its side. Simple replies have a fixed length, so it
// does not look at them; whether a reply is right is for the tests to say.
//
// Usage: drain_client SOCKET EXPORT SIZE_BYTES CONNECTIONS BLOCK_BYTES DEPTH SECONDS
// Prints one line of JSON: operations, wall and CPU seconds.
#include <fcntl.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "bench/nbd_socket.h"

namespace keyhold::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  std::string socket_path;
  std::string export_name;
  uint64_t size_bytes;
  unsigned connections;
  uint32_t block_bytes;
  uint32_t depth;
  double seconds;
};

constexpr int kPipeBytes = 1 << 20;

/// GO without any other option: simple replies.
bool Negotiate(int fd, const std::string& export_name) {
  std::array<uint8_t, kGreetingBytes> greeting{};
  if (!ReadExactly(fd, greeting) || wire::Load64(greeting.data()) != kGreetingMagic) return false;
  const size_t length = 4 + export_name.size() + 2;
  std::vector<uint8_t> go(4 + kOptionBytes + length);
  uint8_t* at = wire::Store32(go.data(), kFixedNewstyleNoZeroes);
  at = wire::Store64(at, kOptionMagic);
  at = wire::Store32(at, kGo);
  at = wire::Store32(at, static_cast<uint32_t>(length));
  at = wire::Store32(at, static_cast<uint32_t>(export_name.size()));
  std::memcpy(at, export_name.data(), export_name.size());
  if (!WriteExactly(fd, go)) return false;
  for (;;) {
    std::array<uint8_t, kOptionReplyBytes> reply{};
    if (!ReadExactly(fd, reply)) return false;
    const uint32_t type = wire::Load32(reply.data() + 12);
    std::vector<uint8_t> data(wire::Load32(reply.data() + 16));
    if (!ReadExactly(fd, data)) return false;
    if (type == kAck) return true;
    if (type != kInfoReply) {
      std::fprintf(stderr, "drain_client: expected the export %s, got option reply %#x\n",
                   export_name.c_str(), type);
      return false;
    }
  }
}

/// Sends requests and throws their replies away.
class Drain {
 public:
  explicit Drain(const Load& load) : load_(load), requests_(load.depth * wire::kRequestBytes) {}

  bool Open() {
    socket_ = ConnectUnix(load_.socket_path);
    std::array<int, 2> ends{-1, -1};
    if (!socket_ || ::pipe2(ends.data(), O_CLOEXEC) != 0) return false;
    pipe_out_.Reset(ends[0]);
    pipe_in_.Reset(ends[1]);
    (void)::fcntl(pipe_in_.get(), F_SETPIPE_SZ, kPipeBytes);
    nowhere_.Reset(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    return nowhere_ && Negotiate(socket_.get(), load_.export_name);
  }

  /// Half of the depth is asked for anew whenever half of it has arrived.
  bool Run(Clock::time_point until) {
    const uint32_t half = std::max(1U, load_.depth / 2);
    if (!Ask(load_.depth)) return false;
    uint32_t in_flight = load_.depth;
    while (in_flight > 0) {
      const uint32_t wanted = std::min(half, in_flight);
      if (!Discard(wanted * (wire::kSimpleReplyBytes + load_.block_bytes))) return false;
      operations_ += wanted;
      in_flight -= wanted;
      if (Clock::now() >= until) continue;
      if (!Ask(wanted)) return false;
      in_flight += wanted;
    }
    return true;
  }

  uint64_t operations() const { return operations_; }

 private:
  bool Ask(uint32_t count) {
    const uint64_t blocks = load_.size_bytes / load_.block_bytes;
    uint8_t* at = requests_.data();
    for (uint32_t i = 0; i < count; ++i) {
      at = StoreRequest(at, wire::kRead, i, random_() % blocks * load_.block_bytes,
                        load_.block_bytes);
    }
    return WriteExactly(socket_.get(), {requests_.data(), at});
  }

  bool Discard(uint64_t bytes) {
    while (bytes > 0) {
      const size_t most = std::min<uint64_t>(bytes, kPipeBytes);
      const ssize_t got =
          ::splice(socket_.get(), nullptr, pipe_in_.get(), nullptr, most, SPLICE_F_MOVE);
      if (got <= 0) return false;
      for (ssize_t left = got; left > 0;) {
        const ssize_t gone = ::splice(pipe_out_.get(), nullptr, nowhere_.get(), nullptr,
                                      static_cast<size_t>(left), SPLICE_F_MOVE);
        if (gone <= 0) return false;
        left -= gone;
      }
      bytes -= static_cast<uint64_t>(got);
    }
    return true;
  }

  const Load& load_;
  std::vector<uint8_t> requests_;
  std::minstd_rand random_{std::random_device{}()};
  UniqueFd socket_;
  UniqueFd pipe_out_;
  UniqueFd pipe_in_;
  UniqueFd nowhere_;
  uint64_t operations_ = 0;
};

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int Run(const Load& load) {
  std::vector<Drain> drains;
  for (unsigned i = 0; i < load.connections; ++i) drains.emplace_back(load);
  for (Drain& drain : drains) {
    if (!drain.Open()) return 1;
  }
  const double cpu = CpuSeconds();
  const Clock::time_point begin = Clock::now();
  const auto until = begin + std::chrono::duration_cast<Clock::duration>(
                                 std::chrono::duration<double>(load.seconds));
  std::vector<std::thread> threads;
  std::vector<char> ended_well(drains.size());
  for (size_t i = 0; i < drains.size(); ++i) {
    threads.emplace_back([&, i] { ended_well[i] = drains[i].Run(until) ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> wall = Clock::now() - begin;
  uint64_t operations = 0;
  for (size_t i = 0; i < drains.size(); ++i) {
    if (ended_well[i] == 0) {
      std::fprintf(stderr, "drain_client: the server closed connection %zu\n", i);
      return 1;
    }
    operations += drains[i].operations();
  }
  std::printf("{\"operations\": %llu, \"seconds\": %.6f, \"cpuSeconds\": %.6f}\n",
              static_cast<unsigned long long>(operations), wall.count(), CpuSeconds() - cpu);
  return 0;
}

}  // namespace
}  // namespace keyhold::bench

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr,
                 "usage: drain_client SOCKET EXPORT SIZE_BYTES CONNECTIONS BLOCK_BYTES DEPTH "
                 "SECONDS\n");
    return 2;
  }
  const auto number = [&](int i) { return std::strtoull(argv[i], nullptr, 10); };
  return keyhold::bench::Run({argv[1], argv[2], number(3), static_cast<unsigned>(number(4)),
                              static_cast<uint32_t>(number(5)), static_cast<uint32_t>(number(6)),
                              std::strtod(argv[7], nullptr)});
}

// SPDX-License-Identifier: Apache-2.0
//
// The ceiling of client plus socket: an NBD server without a disk and without cryptography. Reads
// are answered from a static buffer, writes are thrown away. One thread per connection, one large
// read() of many requests, one writev() of many replies.
//
// Usage: null_server SOCKET SIZE_BYTES
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "bench/nbd_socket.h"

namespace keyhold::bench {
namespace {

// HAS_FLAGS, SEND_FLUSH, SEND_FUA, CAN_MULTI_CONN
constexpr uint16_t kTransmissionFlags = 0x1 | 0x4 | 0x8 | 0x100;

constexpr uint32_t kOptionBytesMax = 64 * 1024;
// Large enough for many requests, small enough to stay in a core's second-level cache.
constexpr size_t kReceiveBytes = 256 * 1024;
// Repeated for longer reads: what is sent is always warm.
constexpr size_t kZeroBytes = 64 * 1024;
constexpr size_t kVectorsMax = 1024;  // IOV_MAX
constexpr size_t kRepliesMax = 512;
constexpr size_t kHeaderBytesMax = wire::kStructuredReplyBytes + 8;

std::array<uint8_t, kZeroBytes> zeros;

bool SendOptionReply(int fd, uint32_t option, uint32_t type, std::span<const uint8_t> data = {}) {
  std::vector<uint8_t> reply(kOptionReplyBytes);
  uint8_t* at = wire::Store64(reply.data(), kOptionReplyMagic);
  at = wire::Store32(at, option);
  at = wire::Store32(at, type);
  wire::Store32(at, static_cast<uint32_t>(data.size()));
  reply.insert(reply.end(), data.begin(), data.end());
  return WriteExactly(fd, reply);
}

bool SendExportInfo(int fd, uint32_t option, uint64_t size_bytes) {
  std::array<uint8_t, 12> info{};  // type 0: NBD_INFO_EXPORT
  uint8_t* at = wire::Store64(info.data() + 2, size_bytes);
  wire::Store16(at, kTransmissionFlags);
  return SendOptionReply(fd, option, kInfoReply, info);
}

/// True when the client went into transmission.
bool Negotiate(int fd, uint64_t size_bytes, bool& structured) {
  std::array<uint8_t, kGreetingBytes> greeting{};
  uint8_t* at = wire::Store64(greeting.data(), kGreetingMagic);
  at = wire::Store64(at, kOptionMagic);
  wire::Store16(at, kFixedNewstyleNoZeroes);
  std::array<uint8_t, 4> client_flags{};
  if (!WriteExactly(fd, greeting) || !ReadExactly(fd, client_flags)) return false;
  for (;;) {
    std::array<uint8_t, kOptionBytes> header{};
    if (!ReadExactly(fd, header) || wire::Load64(header.data()) != kOptionMagic) return false;
    const uint32_t option = wire::Load32(header.data() + 8);
    const uint32_t length = wire::Load32(header.data() + 12);
    if (length > kOptionBytesMax) return false;
    std::vector<uint8_t> data(length);
    if (!ReadExactly(fd, data)) return false;
    const bool about_export = option == kInfo || option == kGo;
    if (option == kStructuredReply) structured = true;
    if (about_export && !SendExportInfo(fd, option, size_bytes)) return false;
    const bool known = about_export || option == kStructuredReply || option == kAbort;
    if (!SendOptionReply(fd, option, known ? kAck : kUnsupported)) return false;
    if (option == kAbort) return false;
    if (option == kGo) return true;
  }
}

/// Replies that go out together.
class Replies {
 public:
  Replies(int fd, bool structured) : fd_(fd), structured_(structured) {}

  bool Add(const wire::RequestHeader& request) {
    const bool is_read = request.type == wire::kRead;
    const size_t pieces = 1 + (is_read ? (request.length_bytes + kZeroBytes - 1) / kZeroBytes : 0);
    if (replies_ == kRepliesMax || vectors_ + pieces > kVectorsMax) {
      if (!Send()) return false;
    }
    uint8_t* const header = headers_.data() + replies_ * kHeaderBytesMax;
    Push(header, is_read && structured_ ? DataChunk(header, request) : Simple(header, request));
    size_t left = is_read ? request.length_bytes : 0;
    while (left > 0) {
      const size_t piece = left < kZeroBytes ? left : kZeroBytes;
      Push(zeros.data(), piece);
      left -= piece;
    }
    ++replies_;
    return true;
  }

  bool Send() {
    size_t first = 0;
    while (first < vectors_) {
      ssize_t put = ::writev(fd_, &vector_[first], static_cast<int>(vectors_ - first));
      if (put <= 0) return false;
      while (first < vectors_ && static_cast<size_t>(put) >= vector_[first].iov_len) {
        put -= static_cast<ssize_t>(vector_[first++].iov_len);
      }
      if (put > 0) {
        vector_[first].iov_base = static_cast<uint8_t*>(vector_[first].iov_base) + put;
        vector_[first].iov_len -= static_cast<size_t>(put);
      }
    }
    vectors_ = replies_ = 0;
    return true;
  }

 private:
  static size_t Simple(uint8_t* to, const wire::RequestHeader& request) {
    uint8_t* at = wire::Store32(to, wire::kSimpleReplyMagic);
    at = wire::Store32(at, wire::kOk);
    wire::Store64(at, request.cookie);
    return wire::kSimpleReplyBytes;
  }

  static size_t DataChunk(uint8_t* to, const wire::RequestHeader& request) {
    uint8_t* at = wire::Store32(to, wire::kStructuredReplyMagic);
    at = wire::Store16(at, wire::kChunkDone);
    at = wire::Store16(at, wire::kChunkOffsetData);
    at = wire::Store64(at, request.cookie);
    at = wire::Store32(at, static_cast<uint32_t>(8 + request.length_bytes));
    wire::Store64(at, request.offset_bytes);
    return kHeaderBytesMax;
  }

  void Push(uint8_t* base, size_t length) { vector_[vectors_++] = {base, length}; }

  const int fd_;
  const bool structured_;
  size_t replies_ = 0;
  size_t vectors_ = 0;
  std::array<uint8_t, kRepliesMax * kHeaderBytesMax> headers_;
  std::array<iovec, kVectorsMax> vector_;
};

/// Until the client leaves.
void Transmit(int fd, bool structured) {
  std::vector<uint8_t> buffer(kReceiveBytes);
  const auto replies = std::make_unique<Replies>(fd, structured);
  size_t end = 0;
  wire::RequestHeader request{};
  bool unanswered = false;  // `request` is, its payload is still arriving
  size_t payload_left = 0;
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data() + end, buffer.size() - end);
    if (got <= 0) return;
    end += static_cast<size_t>(got);
    size_t begin = 0;
    for (;;) {
      const size_t thrown_away = std::min(payload_left, end - begin);
      begin += thrown_away;
      payload_left -= thrown_away;
      if (payload_left > 0) break;
      if (unanswered && !replies->Add(request)) return;
      unanswered = false;
      if (end - begin < wire::kRequestBytes) break;
      request = wire::ParseRequest(buffer.data() + begin);
      begin += wire::kRequestBytes;
      if (request.magic != wire::kRequestMagic || request.type == wire::kDisconnect) return;
      if (request.length_bytes > wire::kPayloadBytesMax) return;
      payload_left = static_cast<size_t>(request.payload_bytes);
      unanswered = true;
    }
    if (!replies->Send()) return;
    std::memmove(buffer.data(), buffer.data() + begin, end - begin);
    end -= begin;
  }
}

void Serve(UniqueFd connection, uint64_t size_bytes) {
  bool structured = false;
  if (Negotiate(connection.get(), size_bytes, structured)) Transmit(connection.get(), structured);
}

int Fail(const char* what) {
  std::perror(what);
  return 1;
}

int Run(const std::string& path, uint64_t size_bytes) {
  const std::optional<sockaddr_un> address = UnixAddress(path);
  if (!address) return 2;
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return Fail("null_server: socket");
  const auto* generic = reinterpret_cast<const sockaddr*>(&*address);
  if (::bind(listener.get(), generic, sizeof *address) != 0) return Fail("null_server: bind");
  if (::listen(listener.get(), SOMAXCONN) != 0) return Fail("null_server: listen");
  for (;;) {
    UniqueFd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return Fail("null_server: accept");
    std::thread(Serve, std::move(connection), size_bytes).detach();
  }
}

}  // namespace
}  // namespace keyhold::bench

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: null_server SOCKET SIZE_BYTES\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);  // a client that left ends its own connection only
  return keyhold::bench::Run(argv[1], std::strtoull(argv[2], nullptr, 10));
}

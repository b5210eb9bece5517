// SPDX-License-Identifier: Apache-2.0
// Searches this process's memory for a client's plaintext after the key has gone. What is searched
// for is kept masked, and the client works in one static buffer that it wipes.
//
// Not under ThreadSanitizer: its runtime saves the vector registers in thread state of its own, at
// every call that it intercepts, and so keeps pieces of whatever was copied.
#if !defined(__SANITIZE_THREAD__)

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "core/shard/session.h"
#include "test/plane_fixture.h"

namespace keyhold::test {
namespace {

constexpr size_t kNeedleBytes = 16;
constexpr uint8_t kMask = 0x5a;
constexpr std::array<uint8_t, kNeedleBytes> kMasked = {
    0x3c, 0x91, 0xe7, 0x08, 0x5d, 0xb2, 0x66, 0xfa, 0x13, 0xc4, 0x79, 0xd0, 0x2e, 0x85, 0xab, 0x4f};
constexpr size_t kPayloadBytes = 64 * 1024;

struct {
  alignas(4096) std::array<uint8_t, wire::kRequestBytes + kPayloadBytes> bytes;
} client_memory;

uint8_t* Payload() { return client_memory.bytes.data() + wire::kRequestBytes; }

void Send(Client& client, uint16_t type, uint64_t offset, uint32_t length, size_t payload_bytes) {
  uint8_t* to = wire::Store32(client_memory.bytes.data(), wire::kRequestMagic);
  to = wire::Store16(to, 0);
  to = wire::Store16(to, type);
  to = wire::Store64(to, 1);
  to = wire::Store64(to, offset);
  wire::Store32(to, length);
  client.SendRaw(std::span(client_memory.bytes).first(wire::kRequestBytes + payload_bytes));
}

void FillWithMarker() {
  for (size_t i = 0; i < kPayloadBytes; ++i) {
    Payload()[i] = static_cast<uint8_t>(kMasked[i % kNeedleBytes] ^ kMask);
  }
}

void WriteMarker(Client& client, uint64_t offset) {
  FillWithMarker();
  Send(client, wire::kWrite, offset, kPayloadBytes, kPayloadBytes);
  ASSERT_EQ(client.Receive()->error, 0U);
}

void ReadMarker(Client& client, uint64_t offset) {
  explicit_bzero(Payload(), kPayloadBytes);
  Send(client, wire::kRead, offset, kPayloadBytes, 0);
  ASSERT_EQ(::recv(client.fd(), client_memory.bytes.data(), 16, MSG_WAITALL), 16);
  ASSERT_EQ(::recv(client.fd(), Payload(), kPayloadBytes, MSG_WAITALL),
            static_cast<ssize_t>(kPayloadBytes));
  ASSERT_EQ(Payload()[5], kMasked[5] ^ kMask);
}

/// How often the marker lies in [bytes, bytes + length).
size_t CountMarkers(const uint8_t* bytes, size_t length) {
  const auto first = static_cast<uint8_t>(kMasked[0] ^ kMask);
  size_t count = 0;
  for (size_t i = 0; i + kNeedleBytes <= length; ++i) {
    if (bytes[i] != first) continue;
    size_t same = 1;
    while (same < kNeedleBytes && bytes[i + same] == (kMasked[same] ^ kMask)) ++same;
    if (same == kNeedleBytes) ++count;
  }
  return count;
}

/// Looks through every resident page of the process, as a core dump would.
size_t MarkersInMemory() {
  constexpr size_t kPage = 4096;
  constexpr uintptr_t kShadowBytes = uintptr_t{1} << 34;  // larger ones are a sanitizer's shadow
  static std::array<uint8_t, 2 * kPage> window;
  const int memory = ::open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  const int pagemap = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  std::ifstream maps("/proc/self/maps");
  size_t found = 0;
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0;
    unsigned long end = 0;
    char mode[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, mode) != 3) continue;
    if (std::strncmp(mode, "rw", 2) != 0 || end - start >= kShadowBytes) continue;
    for (uintptr_t page = start; page < end; page += kPage) {
      uint64_t entry = 0;
      if (::pread(pagemap, &entry, sizeof entry, static_cast<off_t>(page / kPage * 8)) != 8 ||
          entry >> 62 == 0) {
        continue;
      }
      // This page and the start of the next, for what lies across the border.
      const ssize_t got =
          ::pread(memory, window.data(), kPage + kNeedleBytes - 1, static_cast<off_t>(page));
      if (got > 0) found += CountMarkers(window.data(), static_cast<size_t>(got));
      explicit_bzero(window.data(), window.size());
    }
  }
  ::close(memory);
  ::close(pagemap);
  return found;
}

class PlaintextResidue : public ::testing::Test {
 protected:
  PlaintextResidue() : plane_(2) {
    DiskSetup setup;
    setup.size_bytes = 8U << 20;
    disk_ = plane_.AddDisk(setup);
    clients_.push_back(plane_.Connect(disk_));
    clients_.push_back(plane_.Connect(disk_));
    for (uint64_t at = 0; at + kPayloadBytes <= setup.size_bytes; at += kPayloadBytes) {
      WriteMarker(clients_[at / kPayloadBytes % 2], at);
    }
    for (Client& client : clients_) {
      WriteMarker(client, 100);
      ReadMarker(client, 100);
      ReadMarker(client, 2 * kPayloadBytes);
    }
    // A reply that nobody reads: the server still holds most of it.
    clients_.push_back(plane_.Connect(disk_));
    Send(clients_.back(), wire::kRead, 0, 4U << 20, 0);
    EXPECT_TRUE(Eventually([&] {
      return Sum(*disk_, [](const ShardCounters& c) -> const Counter& { return c.in_flight; }) == 1;
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  void WipeClient() { explicit_bzero(client_memory.bytes.data(), client_memory.bytes.size()); }

  TestPlane plane_;
  std::shared_ptr<Disk> disk_;
  std::vector<Client> clients_;
};

TEST_F(PlaintextResidue, NothingIsLeftOnceTheDiskIsOffline) {
  FillWithMarker();
  clients_.push_back(plane_.Connect(disk_));
  Send(clients_.back(), wire::kWrite, 3, kPayloadBytes, kPayloadBytes / 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  WipeClient();
  EXPECT_GT(MarkersInMemory(), 0U) << "the search finds what is there";
  GoOffline(*disk_);
  EXPECT_EQ(MarkersInMemory(), 0U);
  // Clients do not know yet and go on sending plaintext.
  FillWithMarker();
  Send(clients_[0], wire::kWrite, 0, kPayloadBytes, kPayloadBytes);
  EXPECT_EQ(clients_[0].Receive()->error, wire::kShutdown);
  WipeClient();
  EXPECT_EQ(MarkersInMemory(), 0U);
}

TEST_F(PlaintextResidue, NothingIsLeftOnceTheDiskIsSuspendedWithoutWrites) {
  WipeClient();
  EXPECT_GT(MarkersInMemory(), 0U) << "the search finds what is there";
  Suspend(*disk_);
  EXPECT_EQ(MarkersInMemory(), 0U);
  // What clients send now waits in the kernel.
  FillWithMarker();
  Send(clients_[0], wire::kWrite, 0, kPayloadBytes, kPayloadBytes);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  WipeClient();
  EXPECT_EQ(MarkersInMemory(), 0U);
  ASSERT_TRUE(Unlock(*disk_).ok());
  EXPECT_EQ(clients_[0].Receive()->error, 0U);
}

TEST_F(PlaintextResidue, NothingIsLeftOfRepliesOfSeveralChunks) {
  clients_.push_back(plane_.Connect(disk_, {wire::Replies::kStructured, {}}));
  Client& client = clients_.back();
  for (uint64_t at = 0; at < 8U << 20; at += 4 * kPayloadBytes) {
    EXPECT_EQ(client.Do(wire::kTrim, 0, at, kPayloadBytes).error, 0U);
  }
  // The first fills the socket and is under way, the others are not.
  for (uint64_t i = 0; i < 6; ++i) client.SendRequest(wire::kRead, 0, i * kPayloadBytes, 4U << 20);
  EXPECT_TRUE(Eventually([&] {
    return Sum(*disk_, [](const ShardCounters& c) -> const Counter& { return c.in_flight; }) == 7;
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  WipeClient();
  EXPECT_GT(MarkersInMemory(), 0U) << "the search finds what is there";
  Suspend(*disk_);
  EXPECT_EQ(MarkersInMemory(), 0U);
}

TEST_F(PlaintextResidue, OfAParkedWriteOnlyItsPayloadIsLeft) {
  FillWithMarker();
  clients_.push_back(plane_.Connect(disk_));
  Send(clients_.back(), wire::kWrite, 3, kPayloadBytes, kPayloadBytes / 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  WipeClient();
  EXPECT_EQ(Suspend(*disk_).parked_requests, 1U);
  EXPECT_LE(MarkersInMemory(), kPayloadBytes / 2 / kNeedleBytes);
  GoOffline(*disk_);
  EXPECT_EQ(MarkersInMemory(), 0U);
}

}  // namespace
}  // namespace keyhold::test

#endif  // !defined(__SANITIZE_THREAD__)

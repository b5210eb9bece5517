// SPDX-License-Identifier: Apache-2.0
#include "test/raw_client.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace keyhold::test {

void Client::SendRaw(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    if (tls_ != nullptr) {
      const int written = SSL_write(tls_.get(), bytes.data(), static_cast<int>(bytes.size()));
      if (written <= 0) return;
      bytes = bytes.subspan(static_cast<size_t>(written));
      continue;
    }
    ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // the test sees it when it waits for the reply
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
}

uint64_t Client::SendRequest(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
                             std::span<const uint8_t> payload) {
  const uint64_t cookie = next_cookie_++;
  if (extended() && type == wire::kWrite) flags |= wire::kPayloadLength;
  const size_t head_bytes = extended() ? wire::kExtendedRequestBytes : wire::kRequestBytes;
  Bytes bytes(head_bytes + payload.size());
  uint8_t* to =
      wire::Store32(bytes.data(), extended() ? wire::kExtendedRequestMagic : wire::kRequestMagic);
  to = wire::Store16(to, flags);
  to = wire::Store16(to, type);
  to = wire::Store64(to, cookie);
  to = wire::Store64(to, offset);
  to = extended() ? wire::Store64(to, length) : wire::Store32(to, static_cast<uint32_t>(length));
  std::copy(payload.begin(), payload.end(), to);
  sent_[cookie] = {type, offset, length};
  SendRaw(bytes);
  return cookie;
}

bool Client::ReceiveExactly(std::span<uint8_t> into) {
  while (!into.empty()) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    const bool here = tls_ != nullptr && SSL_pending(tls_.get()) > 0;
    if (!here && ::poll(&waiting, 1, 20'000) <= 0) {
      ADD_FAILURE() << "no reply within 20 s";
      return false;
    }
    ssize_t got = tls_ == nullptr
                      ? ::recv(socket_.get(), into.data(), into.size(), 0)
                      : SSL_read(tls_.get(), into.data(), static_cast<int>(into.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into = into.subspan(static_cast<size_t>(got));
  }
  return true;
}

std::optional<Reply> Client::Receive() {
  Reply reply;
  for (bool done = false; !done;) {
    std::array<uint8_t, wire::kExtendedReplyBytes> head{};
    if (!ReceiveExactly(std::span(head).first(wire::kSimpleReplyBytes))) return {};
    const uint32_t magic = wire::Load32(head.data());
    if (magic == wire::kSimpleReplyMagic) {
      EXPECT_TRUE(reply.chunks.empty()) << "a simple reply after a chunk";
      if (!ReceiveSimple(reply, head.data())) return {};
      return reply;
    }
    EXPECT_NE(agreed_.replies, wire::Replies::kSimple);
    EXPECT_EQ(magic, extended() ? wire::kExtendedReplyMagic : wire::kStructuredReplyMagic);
    const size_t rest = (extended() ? wire::kExtendedReplyBytes : wire::kStructuredReplyBytes) -
                        wire::kSimpleReplyBytes;
    if (!ReceiveExactly(std::span(head).subspan(wire::kSimpleReplyBytes, rest))) return {};
    if (!ReceiveChunk(reply, head.data(), &done)) return {};
  }
  return reply;
}

bool Client::ReceiveSimple(Reply& reply, const uint8_t* head) {
  reply.error = wire::Load32(head + 4);
  reply.cookie = wire::Load64(head + 8);
  EXPECT_NE(agreed_.replies, wire::Replies::kExtended) << "a simple reply to an extended request";
  auto sent = sent_.extract(reply.cookie);
  if (sent.empty()) return true;
  if (sent.mapped().type != wire::kRead) return true;
  EXPECT_EQ(agreed_.replies, wire::Replies::kSimple) << "a read was answered by a simple reply";
  if (reply.error != 0) return true;
  reply.data.resize(sent.mapped().length);
  return ReceiveExactly(reply.data);
}

bool Client::ReceiveChunk(Reply& reply, const uint8_t* head, bool* done) {
  const uint64_t cookie = wire::Load64(head + 8);
  if (!reply.chunks.empty()) {
    EXPECT_EQ(cookie, reply.cookie) << "this server sends the chunks of a reply in one piece";
  }
  reply.structured = true;
  reply.cookie = cookie;
  reply.chunk = wire::Load16(head + 6);
  reply.chunks.push_back(reply.chunk);
  EXPECT_EQ(wire::Load16(head + 4) & ~wire::kChunkDone, 0);
  *done = (wire::Load16(head + 4) & wire::kChunkDone) != 0;
  const auto found = sent_.find(cookie);
  // A request that a test sent as raw bytes may be of any kind.
  const Sent sent = found != sent_.end() ? found->second : Sent{wire::kBlockStatus, 0, UINT64_MAX};
  if (extended() && found != sent_.end()) {
    EXPECT_EQ(wire::Load64(head + 16), sent.offset) << "the offset is echoed";
  }
  Bytes body(extended() ? wire::Load64(head + 24) : wire::Load32(head + 16));
  if (!ReceiveExactly(body)) return false;
  switch (reply.chunk) {
    case wire::kChunkNone:
      EXPECT_TRUE(body.empty());
      EXPECT_TRUE(*done);
      break;
    case wire::kChunkOffsetData:
      TakeData(reply, sent, body);
      break;
    case wire::kChunkOffsetHole:
      TakeHole(reply, sent, body);
      break;
    case wire::kChunkBlockStatus:
    case wire::kChunkBlockStatusExtended:
      TakeStatus(reply, sent, body);
      break;
    default:
      TakeError(reply, sent, body);
  }
  if (*done) sent_.erase(cookie);
  return true;
}

void Client::TakeData(Reply& reply, const Sent& sent, const Bytes& body) {
  EXPECT_GT(body.size(), 8U);
  EXPECT_EQ(wire::Load64(body.data()), sent.offset + reply.data.size()) << "chunks are in order";
  reply.data.insert(reply.data.end(), body.begin() + 8, body.end());
  EXPECT_LE(reply.data.size(), sent.length);
}

void Client::TakeHole(Reply& reply, const Sent& sent, const Bytes& body) {
  ASSERT_EQ(body.size(), 12U);
  EXPECT_EQ(wire::Load64(body.data()), sent.offset + reply.data.size()) << "chunks are in order";
  EXPECT_GT(wire::Load32(body.data() + 8), 0U);
  reply.data.resize(reply.data.size() + wire::Load32(body.data() + 8), 0);
  EXPECT_LE(reply.data.size(), sent.length);
}

void Client::TakeStatus(Reply& reply, const Sent& sent, const Bytes& body) const {
  const size_t head_bytes = extended() ? 8 : 4;
  const size_t extent_bytes = extended() ? 16 : 8;
  EXPECT_EQ(sent.type, wire::kBlockStatus);
  EXPECT_EQ(reply.chunk, extended() ? wire::kChunkBlockStatusExtended : wire::kChunkBlockStatus);
  ASSERT_GT(body.size(), head_bytes);
  reply.context_id = wire::Load32(body.data());
  for (size_t at = head_bytes; at + extent_bytes <= body.size(); at += extent_bytes) {
    const uint8_t* from = body.data() + at;
    reply.extents.push_back(extended() ? StatusExtent{wire::Load64(from), wire::Load64(from + 8)}
                                       : StatusExtent{wire::Load32(from), wire::Load32(from + 4)});
    EXPECT_GT(reply.extents.back().length, 0U);
  }
  EXPECT_EQ(body.size(), head_bytes + extent_bytes * reply.extents.size());
  if (extended()) {
    EXPECT_EQ(wire::Load32(body.data() + 4), reply.extents.size());
  }
}

void Client::TakeError(Reply& reply, const Sent& sent, const Bytes& body) {
  EXPECT_TRUE(reply.chunk == wire::kChunkError || reply.chunk == wire::kChunkErrorOffset);
  ASSERT_GE(body.size(), 6U);
  const size_t text_bytes = wire::Load16(body.data() + 4);
  const bool located = reply.chunk == wire::kChunkErrorOffset;
  ASSERT_EQ(body.size(), 6 + text_bytes + (located ? 8 : 0));
  reply.error = wire::Load32(body.data());
  reply.text.assign(body.begin() + 6, body.begin() + 6 + static_cast<ptrdiff_t>(text_bytes));
  EXPECT_NE(reply.error, 0U);
  EXPECT_FALSE(reply.text.empty());
  if (!located) return;
  reply.error_offset = wire::Load64(body.data() + 6 + text_bytes);
  EXPECT_GE(*reply.error_offset, sent.offset);
  if (sent.type != wire::kBlockStatus) {
    EXPECT_LT(*reply.error_offset - sent.offset, sent.length);
  }
}

Reply Client::Do(uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
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

Reply Client::StatusOf(uint16_t flags, uint64_t offset, uint64_t length,
                       std::vector<uint32_t> ids) {
  Bytes payload(8 + 4 * ids.size());
  uint8_t* to = wire::Store64(payload.data(), length);
  for (uint32_t id : ids) to = wire::Store32(to, id);
  return Do(wire::kBlockStatus, flags | wire::kPayloadLength, offset, payload.size(), payload);
}

Bytes Client::Read(uint64_t offset, uint32_t length) {
  Reply reply = Do(wire::kRead, 0, offset, length);
  EXPECT_EQ(reply.error, 0U);
  return reply.data;
}

void Client::Write(uint64_t offset, std::span<const uint8_t> bytes, uint16_t flags) {
  EXPECT_EQ(Do(wire::kWrite, flags, offset, bytes.size(), bytes).error, 0U);
}

bool Client::Silent(int ms) {
  pollfd waiting{socket_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, ms) == 0;
}

bool Client::AtEnd() {
  uint8_t byte = 0;
  pollfd waiting{socket_.get(), POLLIN, 0};
  if (::poll(&waiting, 1, 20'000) <= 0) return false;
  if (tls_ != nullptr) return SSL_read(tls_.get(), &byte, 1) <= 0;
  return ::recv(socket_.get(), &byte, 1, 0) <= 0;
}

}  // namespace keyhold::test

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace keyhold::wire {

// Numbers of the NBD protocol's transmission phase (reference/nbd.md 1.1, 1.5 to 1.7).

inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;
inline constexpr uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr uint32_t kExtendedReplyMagic = 0x6e8a278c;

inline constexpr size_t kRequestBytes = 28;
inline constexpr size_t kExtendedRequestBytes = 32;
inline constexpr size_t kSimpleReplyBytes = 16;
inline constexpr size_t kStructuredReplyBytes = 20;
inline constexpr size_t kExtendedReplyBytes = 32;

/// Payloads up to here are never treated as abuse; a longer one ends the connection.
inline constexpr uint32_t kPayloadBytesMax = 32U << 20;

/// What option negotiation agreed on for the messages of transmission.
enum class Replies : uint8_t {
  kSimple,      // compact requests; simple replies
  kStructured,  // compact requests; READ is answered in chunks, and every error
  kExtended,    // 32-byte headers both ways; every reply in chunks
};

/// What a connection takes from option negotiation into transmission.
struct Agreed {
  Replies replies = Replies::kSimple;
  /// The id of base:allocation; nothing when the client did not select it.
  std::optional<uint32_t> allocation_context_id;
};

enum Type : uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kCache = 5,
  kWriteZeroes = 6,
  kBlockStatus = 7,
};

enum Flag : uint16_t {
  kFua = 0x1,
  kNoHole = 0x2,
  kDontFragment = 0x4,
  kRequestOne = 0x8,
  kFastZero = 0x10,
  kPayloadLength = 0x20,  // extended requests: the length is that of a payload
};

enum ChunkType : uint16_t {
  kChunkNone = 0,
  kChunkOffsetData = 1,
  kChunkOffsetHole = 2,
  kChunkBlockStatus = 5,
  kChunkBlockStatusExtended = 6,
  kChunkError = 0x8001,
  kChunkErrorOffset = 0x8002,
};
inline constexpr uint16_t kChunkDone = 0x1;

/// Of an extent of base:allocation.
enum ExtentFlag : uint32_t { kExtentHole = 0x1, kExtentZero = 0x2 };

enum ErrorCode : uint32_t {
  kOk = 0,
  kPerm = 1,
  kIo = 5,
  kNoMem = 12,
  kInval = 22,
  kNoSpc = 28,
  kOverflow = 75,
  kNotSup = 95,
  kShutdown = 108,
};

inline uint16_t Load16(const uint8_t* from) {
  return static_cast<uint16_t>((from[0] << 8) | from[1]);
}
inline uint32_t Load32(const uint8_t* from) {
  uint32_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return __builtin_bswap32(value);
}
inline uint64_t Load64(const uint8_t* from) {
  uint64_t value;
  __builtin_memcpy(&value, from, sizeof value);
  return __builtin_bswap64(value);
}
inline uint8_t* Store16(uint8_t* to, uint16_t value) {
  value = __builtin_bswap16(value);
  __builtin_memcpy(to, &value, sizeof value);
  return to + sizeof value;
}
inline uint8_t* Store32(uint8_t* to, uint32_t value) {
  value = __builtin_bswap32(value);
  __builtin_memcpy(to, &value, sizeof value);
  return to + sizeof value;
}
inline uint8_t* Store64(uint8_t* to, uint64_t value) {
  value = __builtin_bswap64(value);
  __builtin_memcpy(to, &value, sizeof value);
  return to + sizeof value;
}

/// A request as it came; nothing is checked but the magic.
struct RequestHeader {
  uint32_t magic;
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;
  uint64_t offset_bytes;
  uint64_t length_bytes;
  uint64_t payload_bytes;  // so many bytes follow on the wire
};

inline RequestHeader ParseRequest(const uint8_t* from) {
  RequestHeader header{Load32(from),
                       Load16(from + 4),
                       Load16(from + 6),
                       Load64(from + 8),
                       Load64(from + 16),
                       Load32(from + 24),
                       0};
  if (header.type == kWrite) header.payload_bytes = header.length_bytes;
  return header;
}

/// With extended headers it is a flag, and not the command, that says whether a payload follows.
inline RequestHeader ParseExtendedRequest(const uint8_t* from) {
  RequestHeader header{Load32(from),
                       Load16(from + 4),
                       Load16(from + 6),
                       Load64(from + 8),
                       Load64(from + 16),
                       Load64(from + 24),
                       0};
  if ((header.flags & kPayloadLength) != 0) header.payload_bytes = header.length_bytes;
  return header;
}

}  // namespace keyhold::wire

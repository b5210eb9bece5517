// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

namespace keyhold::fuzz {

enum class Replies : uint8_t { kSimple, kStructured, kExtended };

/// What was agreed before transmission, as far as replies depend on it.
struct Agreed {
  Replies replies = Replies::kSimple;
  bool allocation = false;  // base:allocation is selected, with id kAllocationId
  static constexpr uint32_t kAllocationId = 7;
};

/// One client's side of a connection: a stream of requests, and a judge of the replies to it. Both
/// are written from the protocol and share nothing with core/, numbers included.
class Transcript {
 public:
  /// Finds the requests in `stream` and gives each a cookie of its own, in place: with a cookie
  /// twice in flight nobody could say which request a reply belongs to.
  Transcript(std::span<uint8_t> stream, Agreed agreed);

  /// Aborts unless a correct server may send `replies` and then close.
  void Check(std::span<const uint8_t> replies);

 private:
  struct Request {
    uint16_t type = 0;
    uint16_t flags = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    bool whole = false;  // all of its payload is in the stream
    bool answered = false;
    bool failed = false;
    bool plain_error = false;
    bool offset_error = false;
    uint32_t contents = 0;                 // content chunks so far
    std::map<uint64_t, uint64_t> covered;  // of a READ: begin, end
  };
  struct Chunk {
    uint16_t type;
    bool done;
    std::span<const uint8_t> payload;
  };

  bool TakeRequest(std::span<uint8_t>& rest);
  /// Each returns false when the reply is cut off by the end of the stream.
  bool TakeReply(std::span<const uint8_t>& rest);
  bool TakeSimple(std::span<const uint8_t>& rest);
  bool TakeChunk(std::span<const uint8_t>& rest, bool extended);
  Request& Open(uint64_t cookie);
  void Judge(Request& request, const Chunk& chunk);
  void JudgeError(Request& request, const Chunk& chunk);
  void JudgeStatus(Request& request, const Chunk& chunk);
  void Cover(Request& request, uint64_t offset, uint64_t length);
  static void Finish(Request& request);

  const Agreed agreed_;
  std::vector<Request> requests_;
  bool violated_ = false;  // the stream breaks the protocol so that the server must close
};

}  // namespace keyhold::fuzz

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "core/io/unique_fd.h"
#include "core/shard/message.h"

namespace keyhold {

class Request;

/// How other threads reach a shard: a bounded queue and an eventfd that the shard's ring reads.
/// Outlives the shard's runs; closed between them.
class Mailbox {
 public:
  /// What connections may queue. Above it their messages are refused; orders, of which each is one
  /// control call, always fit.
  static constexpr size_t kConnectionMessagesMax = 65536;

  Mailbox();
  int event_fd() const { return event_fd_.get(); }

  void Open();
  /// Drops what is queued; later messages are refused. News of a lock that was dropped before
  /// this call is gone afterwards.
  void Close();
  bool open() const;

  /// False when the mailbox is closed or full; the message is destroyed then.
  bool Post(Message message);
  /// A request of this shard got its sector lock, or a cipher thread gave it back. The list holds
  /// at most the shard's requests in flight.
  void PostNews(Request& request);

  void Take(std::vector<Message>& messages, std::vector<Request*>& news);

 private:
  void Signal();

  UniqueFd event_fd_;
  mutable std::mutex mutex_;  // guards every member below; a leaf: nothing is locked under it
  bool open_ = false;
  std::vector<Message> messages_;
  std::vector<Request*> news_;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/mailbox.h"

#include <sys/eventfd.h>

#include <cstdlib>
#include <utility>

namespace keyhold {
namespace {

bool FromConnection(const Message& message) {
  return std::holds_alternative<AdoptConnection>(message) ||
         std::holds_alternative<AnswerNegotiation>(message) ||
         std::holds_alternative<CloseConnection>(message);
}

}  // namespace

Mailbox::Mailbox() : event_fd_(::eventfd(0, EFD_CLOEXEC)) {}

void Mailbox::Open() {
  std::lock_guard lock(mutex_);
  open_ = true;
}

void Mailbox::Close() {
  // Destroying a message may finish an order, whose callback must not run under the mutex.
  std::vector<Message> dropped;
  std::lock_guard lock(mutex_);
  open_ = false;
  dropped.swap(messages_);
  news_.clear();
}

bool Mailbox::open() const {
  std::lock_guard lock(mutex_);
  return open_;
}

bool Mailbox::Post(Message message) {
  std::lock_guard lock(mutex_);
  if (!open_) return false;
  if (messages_.size() >= kConnectionMessagesMax && FromConnection(message)) return false;
  const bool was_empty = messages_.empty() && news_.empty();
  messages_.push_back(std::move(message));
  if (was_empty) Signal();
  return true;
}

void Mailbox::PostNews(Request& request) {
  std::lock_guard lock(mutex_);
  if (!open_) return;
  const bool was_empty = messages_.empty() && news_.empty();
  news_.push_back(&request);
  if (was_empty) Signal();
}

void Mailbox::Take(std::vector<Message>& messages, std::vector<Request*>& news) {
  std::lock_guard lock(mutex_);
  messages.swap(messages_);
  news.swap(news_);
}

void Mailbox::Signal() {
  const uint64_t one = 1;
  // Cannot fail: the counter is far from its limit and nobody closes the descriptor.
  if (::write(event_fd_.get(), &one, sizeof one) != sizeof one) std::abort();
}

}  // namespace keyhold

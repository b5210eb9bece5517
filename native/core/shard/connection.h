// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "core/io/unique_fd.h"
#include "core/shard/message.h"

namespace keyhold {

class Shard;

/// A connection in one of its two phases: Negotiation, then Session. Belongs to one shard.
///
///   open ──Close──▶ closing ──last ring operation done──▶ finished (the shard destroys it)
class Connection {
 public:
  Connection(Shard& shard, std::shared_ptr<ConnectionRecord> record, UniqueFd socket)
      : shard_(shard), record_(std::move(record)), socket_(std::move(socket)) {}
  virtual ~Connection() = default;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  const ConnectionRecord& record() const { return *record_; }

  /// Does what the events of this batch made possible.
  virtual void Work() = 0;
  virtual void Tick(int64_t now_ns) = 0;
  /// Nothing pending any more: may be destroyed.
  virtual bool Finished() const = 0;
  /// Shuts the socket down, which ends pending operations. `cause` goes to the control plane.
  virtual void Close(std::string cause) = 0;

 protected:
  friend class Shard;
  Shard& shard_;
  std::shared_ptr<ConnectionRecord> record_;
  UniqueFd socket_;

 private:
  bool in_work_list_ = false;
};

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/shard_disk.h"

#include <algorithm>
#include <utility>

#include "core/shard/session.h"
#include "core/shard/shard.h"
#include "core/shard/vector_registers.h"

namespace keyhold {

ShardDisk::ShardDisk(Shard& shard, std::shared_ptr<Disk> disk)
    : shard_(shard),
      disk_(std::move(disk)),
      owner_{disk_->id(), disk_->state() != DiskState::kServing} {}

ShardCounters& ShardDisk::counters() { return disk_->counters(shard_.index()); }

void ShardDisk::AddSession(Session& session) {
  sessions_.push_back(&session);
  CountConnection(false);
}

void ShardDisk::RemoveSession(Session& session) {
  std::erase(sessions_, &session);
  std::erase(starved_, &session);
}

void ShardDisk::CountConnection(bool closed) {
  if (closed) {
    counters().connections.Subtract(1);
  } else {
    counters().connections.Add(1);
  }
}

void ShardDisk::CarryOut(DiskOrder::Share share) {
  // Orders come in sequence, but the disk may have moved on since: then a later order says what to
  // do.
  const DiskState state = disk_->state();
  switch (share.order().kind()) {
    case DiskOrder::Kind::kSuspend:
      if (state == DiskState::kSuspended) Suspend(std::move(share));
      return;
    case DiskOrder::Kind::kResume:
      if (state == DiskState::kServing) Resume();
      return;
    case DiskOrder::Kind::kOffline:
      GoOffline(std::move(share));
      return;
    case DiskOrder::Kind::kDisconnect:
      CloseSessions(share.order(), "the server disconnected the disk's clients");
      return;
    case DiskOrder::Kind::kClose:
      closed_ = true;
      CloseSessions(share.order(), "the server closed the disk");
      orders_.push_back({std::move(share), BootTimeNs()});
      return;
  }
}

void ShardDisk::Suspend(DiskOrder::Share share) {
  owner_.wipe_on_release = true;
  orders_.push_back({std::move(share), BootTimeNs()});
  for (size_t i = 0; i < sessions_.size(); ++i) sessions_[i]->Quiesce(false);
  shard_.pool().WipeDisk(owner_.disk_id);
}

void ShardDisk::Resume() {
  owner_.wipe_on_release = false;
  // A suspension that is not settled yet is over; whoever waits for it gets to know.
  std::erase_if(orders_, [](const Running& running) {
    return running.share.order().kind() == DiskOrder::Kind::kSuspend;
  });
  for (size_t i = 0; i < sessions_.size(); ++i) sessions_[i]->Resume();
}

void ShardDisk::GoOffline(DiskOrder::Share share) {
  owner_.wipe_on_release = true;
  share.order().connections.fetch_add(counters().connections.Get());
  orders_.push_back({std::move(share), BootTimeNs()});
  for (size_t i = 0; i < sessions_.size(); ++i) sessions_[i]->Quiesce(true);
  shard_.pool().WipeDisk(owner_.disk_id);
}

void ShardDisk::CloseSessions(DiskOrder& order, const char* cause) {
  for (size_t i = 0; i < sessions_.size(); ++i) {
    if (sessions_[i]->closing()) continue;
    order.connections.fetch_add(1);
    sessions_[i]->Close(cause);
  }
}

void ShardDisk::SettleOrders(int64_t now_ns) {
  for (const Running& running : orders_) {
    if (now_ns - running.begun_ns > kSendGraceNs) {
      EndStalledReplies();
      break;
    }
  }
  std::vector<Running> settled;
  for (size_t i = 0; i < orders_.size();) {
    if (Settled(orders_[i], now_ns)) {
      settled.push_back(std::move(orders_[i]));
      orders_.erase(orders_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  if (!settled.empty()) ClearVectorRegisters();
  // Letting the shares go may finish an order, which may come back to this shard: so it happens
  // last.
}

bool ShardDisk::Settled(Running& running, int64_t now_ns) {
  DiskOrder& order = running.share.order();
  const bool gave_up = now_ns - running.begun_ns > disk_->drain_ns_max();
  switch (order.kind()) {
    case DiskOrder::Kind::kSuspend: {
      if (!Quiet(false) && !gave_up) return false;
      for (const Session* session : sessions_) order.parked.fetch_add(session->parked_requests());
      return true;
    }
    case DiskOrder::Kind::kOffline: {
      if (Quiet(true)) return true;
      if (!gave_up) return false;
      for (const Session* session : sessions_) {
        order.unfinished.fetch_add(session->unfinished_requests());
      }
      return true;
    }
    default:
      if (sessions_.empty()) return true;
      if (gave_up) order.unfinished.fetch_add(sessions_.size());
      return gave_up;
  }
}

bool ShardDisk::Quiet(bool offline) const {
  return std::all_of(sessions_.begin(), sessions_.end(),
                     [=](const Session* session) { return session->Quiet(offline); });
}

void ShardDisk::EndStalledReplies() {
  for (size_t i = 0; i < sessions_.size(); ++i) {
    if (!sessions_[i]->closing() && sessions_[i]->SendsPlaintext()) {
      sessions_[i]->Close("the client did not read a reply while the disk lost its key");
    }
  }
}

bool ShardDisk::Reserve(uint64_t bytes, Session& session) {
  if (in_flight_bytes_ > 0 && in_flight_bytes_ + bytes > disk_->in_flight_bytes_max()) {
    if (std::find(starved_.begin(), starved_.end(), &session) == starved_.end()) {
      starved_.push_back(&session);
    }
    return false;
  }
  in_flight_bytes_ += bytes;
  return true;
}

void ShardDisk::GiveBack(uint64_t bytes) {
  in_flight_bytes_ -= bytes;
  std::vector<Session*> starved;
  starved.swap(starved_);
  for (Session* session : starved) shard_.MarkWork(*session);
}

bool ShardDisk::OthersStarve(const Session& session) const {
  return std::any_of(starved_.begin(), starved_.end(),
                     [&](const Session* starved) { return starved != &session; });
}

void ShardDisk::CountRefused() {
  for (Running& running : orders_) {
    if (running.share.order().kind() == DiskOrder::Kind::kOffline) {
      running.share.order().refused.fetch_add(1);
    }
  }
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/shard/shard.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "core/shard/listener.h"
#include "core/shard/plane.h"
#include "core/shard/session.h"
#include "core/shard/vector_registers.h"

namespace keyhold {
namespace {

constexpr int kLooksPerClock = 16;  // about a microsecond

/// Tells the CPU that this is a loop that waits.
void RelaxCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

/// Flushes a disk's store at the end of its way offline.
class Shard::FlushTask final : public StoreOp {
 public:
  FlushTask(Shard& shard, std::unique_ptr<FlushJob> job) : job_(std::move(job)) {
    kind = Kind::kFlush;
    disk_ = job_->disk();
    disk_->store().Submit(shard.ring(), *this);
  }
  bool done() const { return !pending() && job_ == nullptr; }
  void Tick(int64_t now_ns) {
    if (job_ == nullptr || now_ns < job_->deadline_ns()) return;
    GiveUp("the store did not finish its flush within " +
           std::to_string(disk_->drain_ns_max() / 1'000'000) + " ms");
  }
  void GiveUp(std::string why) {
    if (job_ != nullptr) job_->Finish(std::move(why));
    job_.reset();
  }

 private:
  void OnStoreDone(int32_t result) override {
    if (job_ == nullptr) return;
    if (result < 0) {
      disk_->ReportStoreError("flush", -result);
      job_->Finish(std::string("flush the store: ") + std::strerror(-result));
    } else {
      job_->Finish({});
    }
    job_.reset();
  }
  std::unique_ptr<FlushJob> job_;
  std::shared_ptr<Disk> disk_;
};

Status Shard::Run(Plane& plane, uint32_t index, Mailbox& mailbox) {
  const NoSignalFrames no_signal_frames;
  Result<std::unique_ptr<Ring>> ring = Ring::Create(plane.engine().engine);
  if (!ring) return ring.error();
  std::unique_ptr<Shard> shard(new Shard(plane, index, mailbox, ring.Take()));
  Status result = shard->Loop();
  shard->TearDown();
  ClearVectorRegisters();
  // Whatever the kernel may still write to must stay: leaked on purpose.
  if (shard->ring_->pending_count() > 0) (void)shard.release();
  return result;
}

Shard::Shard(Plane& plane, uint32_t index, Mailbox& mailbox, std::unique_ptr<Ring> ring)
    : plane_(plane),
      index_(index),
      mailbox_(mailbox),
      busy_poll_(plane.options().busy_poll_ns),
      ring_(std::move(ring)),
      pool_(plane.buffer_bytes_of(index)),
      long_reads_(plane.cipher_threads(), index),
      mail_op_(this, &Shard::OnMail),
      timer_op_(this, &Shard::OnTimer) {}

Shard::~Shard() = default;

Status Shard::Loop() {
  OnTimer(0);
  OnMail(0);
  while (!stop_ && failure_.empty()) {
    const bool busy = !next_work_.empty() || long_reads_.waiting();
    Status entered = busy ? ring_->Submit() : WaitForNews();
    if (!entered) return entered;
    ring_->Dispatch();
    for (Connection* connection : next_work_) MarkWork(*connection);
    next_work_.clear();
    DoWork();
    DoOrders();
    long_reads_.Work();
    DoWork();
  }
  if (failure_.empty()) return Ok();
  return Error{ErrorCode::kSystem, 0, failure_};
}

/// Nothing is left to do until something completes.
Status Shard::WaitForNews() {
  const int64_t begun_ns = BootTimeNs();
  if (!busy_poll_.ShouldSpin()) {
    Status entered = ring_->SubmitAndWait();
    busy_poll_.Slept(BootTimeNs() - begun_ns);
    return entered;
  }
  Status entered = ring_->Submit();
  if (!entered) return entered;
  bool news = ring_->HasNews();
  while (!news && BootTimeNs() - begun_ns < busy_poll_.spin_ns_max()) {
    for (int i = 0; i < kLooksPerClock && !news; ++i) {
      RelaxCpu();
      news = ring_->HasNews();
    }
  }
  busy_poll_.Spun(news);
  return news ? ring_->Submit() : ring_->SubmitAndWait();
}

void Shard::TearDown() {
  // First, so that nobody hands us a connection any more. Grants of locks that are dropped with it
  // are taken back by DropForGood.
  mailbox_.Close();
  const char* cause = stop_ ? "the server stopped" : "the connection's shard died";
  for (auto& [id, connection] : connections_) connection->Close(cause);
  ring_->CancelAll(kReapNsMax);
  long_reads_.Drain();
  for (auto& [id, connection] : connections_) {
    if (auto* session = dynamic_cast<Session*>(connection.get())) session->DropForGood();
  }
  for (auto& [id, disk] : disks_) disk->DropOrders();
  for (std::unique_ptr<FlushTask>& flush : flushes_) flush->GiveUp("the shard that flushed ended");
  messages_.clear();
}

void Shard::OnMail(int32_t) {
  ring_->ReadEvent(mail_op_, mailbox_.event_fd(), &mail_count_);
  ReadMail();
}

void Shard::ReadMail() {
  mailbox_.Take(messages_, news_);
  for (Request* request : news_) request->OnNews();
  news_.clear();
  for (Message& message : messages_) {
    std::visit([this](auto& one) { Handle(std::move(one)); }, message);
  }
  messages_.clear();
}

void Shard::OnTimer(int32_t) {
  ring_->Timeout(timer_op_, &tick_);
  plane_.NoteTick(index_);
  const int64_t now_ns = BootTimeNs();
  plane_.EnforceLeases(now_ns);
  std::vector<Connection*> all;
  all.reserve(connections_.size());
  for (auto& [id, connection] : connections_) all.push_back(connection.get());
  for (Connection* connection : all) connection->Tick(now_ns);
  for (std::unique_ptr<Acceptor>& acceptor : acceptors_) acceptor->Tick();
  for (std::unique_ptr<FlushTask>& flush : flushes_) flush->Tick(now_ns);
  std::erase_if(flushes_, [](const auto& flush) { return flush->done(); });
  std::erase_if(acceptors_, [](const auto& acceptor) { return acceptor->finished(); });
}

void Shard::Emit(Event event) { plane_.Emit(std::move(event)); }

void Shard::MarkWork(Connection& connection) {
  if (std::exchange(connection.in_work_list_, true)) return;
  work_.push_back(&connection);
}

void Shard::MarkWorkNextTurn(Connection& connection) { next_work_.push_back(&connection); }

void Shard::DoWork() {
  for (size_t i = 0; i < work_.size(); ++i) {
    work_[i]->in_work_list_ = false;
    work_[i]->Work();
  }
  // Only now: an earlier entry may have marked a later one again.
  std::vector<Connection*> touched;
  touched.swap(work_);
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (Connection* connection : touched) {
    if (connection->Finished()) Reap(*connection);
  }
  touched.clear();
  work_.swap(touched);  // keeps its memory
}

void Shard::Reap(Connection& connection) {
  std::erase(next_work_, &connection);
  auto found = connections_.find(connection.record().id);
  if (found != connections_.end() && found->second.get() == &connection) {
    connections_.erase(found);
    return;
  }
  std::erase_if(replaced_, [&](const auto& one) { return one.get() == &connection; });
}

void Shard::DoOrders() {
  if (ordered_.empty()) return;
  const int64_t now_ns = BootTimeNs();
  std::erase_if(ordered_, [&](ShardDisk* disk) {
    disk->SettleOrders(now_ns);
    if (disk->forgotten()) {
      disks_.erase(disk->disk().id());
      return true;
    }
    return !disk->StaysListed();
  });
}

ShardDisk& Shard::DiskHere(const std::shared_ptr<Disk>& disk) {
  std::unique_ptr<ShardDisk>& here = disks_[disk->id()];
  if (here == nullptr) here = std::make_unique<ShardDisk>(*this, disk);
  return *here;
}

void Shard::Forget(const ConnectionRecord& record, uint32_t disk_id, std::string cause) {
  plane_.Forget(record);
  Emit(ConnectionClosed{record.id, disk_id, std::move(cause)});
}

void Shard::NoteTls(ConnectionRecord& record, TlsFacts facts) {
  plane_.NoteTls(record, std::move(facts));
}

void Shard::StartSession(Negotiation& negotiation, NextStep next) {
  auto found = connections_.find(negotiation.record().id);
  std::shared_ptr<Disk> disk = plane_.FindDisk(next.disk_id);
  if (disk == nullptr) {
    negotiation.Close("the disk was closed");
    return;
  }
  std::shared_ptr<ConnectionRecord> record = negotiation.record_;
  record->disk_id.store(disk->id());
  auto session = std::make_unique<Session>(*this, DiskHere(disk), record,
                                           std::move(negotiation.socket_), next.agreed);
  Session& here = *session;
  here.UseTls(negotiation.TakeTls());
  replaced_.push_back(std::exchange(found->second, std::move(session)));
  MarkWork(negotiation);
  Emit(TransmissionStarted{record->id, disk->id()});
  here.Begin(next.leftover);
}

void Shard::Handle(AdoptConnection message) {
  const uint32_t id = message.record->id;
  auto negotiation =
      std::make_unique<Negotiation>(*this, std::move(message.record), std::move(message.socket));
  Negotiation& here = *negotiation;
  connections_[id] = std::move(negotiation);
  here.Begin();
}

void Shard::Handle(AnswerNegotiation message) {
  auto found = connections_.find(message.connection_id);
  if (found == connections_.end()) return;
  if (auto* negotiation = dynamic_cast<Negotiation*>(found->second.get())) {
    negotiation->Answer(std::move(message.send), std::move(message.next));
  }
}

void Shard::Handle(CloseConnection message) {
  auto found = connections_.find(message.connection_id);
  if (found == connections_.end()) return;
  const bool negotiating = dynamic_cast<Negotiation*>(found->second.get()) != nullptr;
  found->second->Close(negotiating ? "the server ended negotiation"
                                   : "the server closed the connection");
}

void Shard::Handle(StartAccepting message) {
  acceptors_.push_back(std::make_unique<Acceptor>(*this, plane_, std::move(message.listener)));
  acceptors_.back()->Begin();
}

void Shard::Handle(StopAccepting message) {
  for (std::unique_ptr<Acceptor>& acceptor : acceptors_) {
    if (acceptor->listener_id() == message.listener_id) acceptor->Stop();
  }
}

void Shard::Handle(CarryOutOrder message) {
  const std::shared_ptr<Disk> disk = message.share.order().disk();
  ShardDisk& here = DiskHere(disk);
  if (here.List()) ordered_.push_back(&here);
  here.CarryOut(std::move(message.share));
}

void Shard::Handle(FlushStore message) {
  flushes_.push_back(std::make_unique<FlushTask>(*this, std::move(message.job)));
}

void Shard::Handle(StopShard) { stop_ = true; }

void Shard::Handle(FailShard) { failure_ = "the shard was told to fail"; }

void Shard::Handle(StallShard message) {
  std::this_thread::sleep_for(std::chrono::nanoseconds(message.duration_ns));
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/disk/key_guard.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace keyhold {
namespace {

constexpr int kSpins = 128;            // about a microsecond
constexpr timespec kPause{0, 20'000};  // 20 microseconds

/// Waits a little for a leaver. One that takes longer than the spins was preempted and needs a CPU,
/// perhaps this one. Sleeping beats sched_yield, which a busy host answers with a whole time slice.
void Pause(int spins) {
  if (spins >= kSpins) nanosleep(&kPause, nullptr);
}

}  // namespace

KeyGuard::KeyGuard(std::shared_ptr<const Lease> lease) { SetLease(std::move(lease)); }

KeyGuard::~KeyGuard() { Wipe(); }

void KeyGuard::SetLease(std::shared_ptr<const Lease> lease) {
  const std::lock_guard lock(control_);
  const Lease* const next = lease.get();
  if (next != nullptr && std::find(leases_.begin(), leases_.end(), lease) == leases_.end()) {
    leases_.push_back(std::move(lease));
  }
  lease_.store(next, std::memory_order_release);
}

Status KeyGuard::Install(std::unique_ptr<xts::Cipher> cipher) {
  if (cipher == nullptr) {
    return Error{ErrorCode::kInvalidArgument, 0, "install key: no cipher was given"};
  }
  const std::lock_guard lock(control_);
  if (cipher_.load(std::memory_order_relaxed) != nullptr) {
    return Error{ErrorCode::kState, 0, "install key: a key is present already"};
  }
  wiped_at_ns_ = 0;
  cipher_.store(cipher.release(), std::memory_order_seq_cst);
  return Ok();
}

int64_t KeyGuard::Wipe() {
  const std::lock_guard lock(control_);
  const std::unique_ptr<xts::Cipher> cipher(cipher_.exchange(nullptr, std::memory_order_seq_cst));
  if (cipher != nullptr) {
    for (const Slot& slot : slots_) {
      for (int spins = 0; slot.inside.load(std::memory_order_seq_cst) != 0; ++spins) {
        Pause(spins);
      }
    }
    cipher->Wipe();
  }
  if (wiped_at_ns_ == 0) wiped_at_ns_ = BootTimeNs();
  return wiped_at_ns_;
}

bool KeyGuard::present() const { return cipher_.load(std::memory_order_acquire) != nullptr; }

KeyGuard::Entry KeyGuard::Enter(uint32_t slot, int64_t now_ns) {
  if (slot >= kSlots) std::abort();
  std::atomic<uint32_t>& inside = slots_[slot].inside;
  // A second entry would be marked as left when the first leaves, and the key wiped under it.
  if (inside.load(std::memory_order_relaxed) != 0) std::abort();
  inside.store(1, std::memory_order_seq_cst);
  const xts::Cipher* cipher = cipher_.load(std::memory_order_seq_cst);
  const Lease* const enforced = lease();
  if (cipher == nullptr || (enforced != nullptr && !enforced->Holds(now_ns))) {
    inside.store(0, std::memory_order_release);
    return Entry(nullptr, slot, nullptr);
  }
  return Entry(this, slot, cipher);
}

KeyGuard::Entry::Entry(KeyGuard* guard, uint32_t slot, const xts::Cipher* cipher)
    : guard_(guard), slot_(slot), cipher_(cipher) {}

KeyGuard::Entry::Entry(Entry&& other) noexcept
    : guard_(std::exchange(other.guard_, nullptr)),
      slot_(other.slot_),
      cipher_(std::exchange(other.cipher_, nullptr)) {}

KeyGuard::Entry::~Entry() {
  // Release: what the cipher call read of the key happens before the wiper zeroes it.
  if (guard_ != nullptr) guard_->slots_[slot_].inside.store(0, std::memory_order_release);
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/shard/plane.h"
#include "core/shard/set_key_reaper.h"
#include "core/store/file_store.h"

namespace keyhold {

Result<std::shared_ptr<Disk>> Plane::OpenDisk(DiskOptions options, const std::string& store_path,
                                              std::shared_ptr<const Lease> lease) {
  // Before the store is touched; AddDisk checks again under the mutex.
  if (stopped_) return StoppedError("open disk " + options.name);
  const DiskGeometry& geometry = options.geometry;
  constexpr uint64_t kBytesMax = INT64_MAX;  // what a file offset can say
  if (geometry.size_bytes > kBytesMax ||
      geometry.data_offset_bytes > kBytesMax - geometry.size_bytes) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "open disk " + options.name + ": size " + std::to_string(geometry.size_bytes) +
                     " and data offset " + std::to_string(geometry.data_offset_bytes) +
                     " are beyond 2^63-1"};
  }
  Result<std::unique_ptr<FileStore>> store = FileStore::Open(
      store_path, geometry.read_only, geometry.data_offset_bytes + geometry.size_bytes,
      {options.direct, geometry.sector_size_bytes, geometry.data_offset_bytes});
  if (!store) return store.error();
  std::string buffered_because = store.value()->buffered_because();
  auto disk = AddDisk(std::move(options), store.Take(), std::move(lease));
  if (disk && !buffered_because.empty()) {
    Emit(StoreBuffered{disk.value()->id(), std::move(buffered_because)});
  }
  return disk;
}

Result<std::shared_ptr<Disk>> Plane::AddDisk(DiskOptions options, std::unique_ptr<Store> store,
                                             std::shared_ptr<const Lease> lease) {
  const DiskGeometry& geometry = options.geometry;
  const uint32_t sector = geometry.sector_size_bytes;
  if ((sector != 512 && sector != 4096) || geometry.size_bytes == 0 ||
      geometry.size_bytes % sector != 0 || geometry.data_offset_bytes % 512 != 0) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "open disk " + options.name + ": size " + std::to_string(geometry.size_bytes) +
                     ", sector size " + std::to_string(sector) + ", data offset " +
                     std::to_string(geometry.data_offset_bytes) + " do not fit together"};
  }
  std::lock_guard lock(mutex_);
  if (stopped_) return StoppedError("open disk " + options.name);
  const uint32_t id = next_disk_id_++;
  auto disk = std::make_shared<Disk>(
      Disk::Options{id, options.name, geometry, options_.shards, options.lease_enforced,
                    options.drain_ns_max, options.hold_ns_max, options.in_flight_bytes_max},
      std::move(store), std::move(lease), *this);
  disks_[id] = disk;
  if (const Lease* enforced = disk->enforced_lease()) leased_[enforced][id] = disk;
  return disk;
}

void Plane::RemoveDisk(uint32_t disk_id) {
  std::lock_guard lock(mutex_);
  const auto found = disks_.find(disk_id);
  if (found == disks_.end()) return;
  DelistLocked(found->second->enforced_lease(), disk_id);
  disks_.erase(found);
}

void Plane::Enlist(const Lease& lease, const std::shared_ptr<Disk>& disk) {
  std::lock_guard lock(mutex_);
  leased_[&lease][disk->id()] = disk;
}

void Plane::Delist(const Lease& lease, uint32_t disk_id) {
  std::lock_guard lock(mutex_);
  DelistLocked(&lease, disk_id);
}

void Plane::DelistLocked(const Lease* lease, uint32_t disk_id) {
  const auto group = leased_.find(lease);
  if (group == leased_.end()) return;
  group->second.erase(disk_id);
  if (group->second.empty()) leased_.erase(group);
}

std::shared_ptr<Disk> Plane::FindDisk(uint32_t disk_id) const {
  std::lock_guard lock(mutex_);
  auto found = disks_.find(disk_id);
  return found == disks_.end() ? nullptr : found->second;
}

/// Every shard comes here at every tick, so what holds must cost nothing for each disk: there are
/// as many leases as sets, and a set may have ten thousand disks.
void Plane::EnforceLeases(int64_t now_ns) {
  SetKeyReaper::Reap(now_ns);
  std::vector<std::shared_ptr<Disk>> ended;
  {
    std::lock_guard lock(mutex_);
    for (auto& [lease, disks] : leased_) {
      if (lease->Holds(now_ns)) continue;
      for (auto& [id, disk] : disks) {
        if (disk->state() == DiskState::kServing) ended.push_back(disk);
      }
    }
  }
  for (const std::shared_ptr<Disk>& disk : ended) disk->SuspendIfLeaseEnded(now_ns);
}

}  // namespace keyhold

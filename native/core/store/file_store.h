// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/io/unique_fd.h"
#include "core/store/direct_io.h"
#include "core/store/store.h"

namespace keyhold {

/// A regular file or a block device.
class FileStore final : public Store {
 public:
  /// Opens `path` and locks it (open file description lock; shared when `read_only`), so that one
  /// store is never written by two servers. kStoreSize when it is smaller than `size_bytes_min`
  /// (the message has both sizes); kInvalidArgument when it is neither a file nor a block device;
  /// kState when somebody else holds it; kStoreDirect when `direct` requires what the store cannot
  /// do (DirectIo says when it is direct otherwise).
  static Result<std::unique_ptr<FileStore>> Open(const std::string& path, bool read_only,
                                                 uint64_t size_bytes_min,
                                                 const DirectIo& direct = {});

  void Close() override { fd_.Reset(); }
  uint64_t size_bytes() const override { return size_bytes_; }

  /// True when data goes past the page cache (O_DIRECT).
  bool direct() const { return alignment_bytes_ != 0; }
  /// Why a block device is not direct; empty for all other stores.
  const std::string& buffered_because() const { return buffered_because_; }

 protected:
  void Start(Ring& ring, StoreOp& op) override;
  void Continue(Ring& ring, StoreOp& op, int32_t result) override;
  std::optional<int32_t> RunNow(StoreOp& op) override;

 private:
  /// How far one kind of transfer may be tried on a shard's own thread. A shard serves many disks,
  /// and ends leases: so it never waits for a device, which may be slow or hung.
  enum class Now : uint8_t {
    kNever,   // the kernel cannot say beforehand whether it would wait
    kCached,  // RWF_NOWAIT: what the page cache has, or takes
    kMemory,  // the file lies in memory: nothing to wait for
  };
  FileStore(UniqueFd fd, uint64_t size_bytes, Now now)
      : fd_(std::move(fd)), size_bytes_(size_bytes), read_now_(now), write_now_(now) {}

  Status ChooseDirect(const std::string& path, const DirectIo& direct);
  uint64_t WholeUnits(uint64_t bytes) const;

  UniqueFd fd_;
  uint64_t size_bytes_;
  std::atomic<Now> read_now_;
  std::atomic<Now> write_now_;
  uint32_t alignment_bytes_ = 0;  // of direct transfers; 0: through the page cache
  std::string buffered_because_;
};

}  // namespace keyhold

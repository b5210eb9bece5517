// SPDX-License-Identifier: Apache-2.0
#include "core/store/file_store.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>

#include "core/store/file_extents.h"

namespace keyhold {
namespace {

Error SystemError(const std::string& what, int errno_value) {
  return Error{ErrorCode::kSystem, errno_value, what + ": " + std::strerror(errno_value)};
}

Result<uint64_t> SizeOf(int fd, const std::string& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return SystemError("stat store " + path, errno);
  if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
  if (!S_ISBLK(status.st_mode)) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "open store " + path + ": neither a regular file nor a block device"};
  }
  uint64_t size_bytes = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size_bytes) != 0) {
    return SystemError("ask the size of block device " + path, errno);
  }
  return size_bytes;
}

/// An open file description lock belongs to the descriptor, not to the process: it also keeps this
/// process from serving one store twice, which a classic POSIX lock would not.
Status LockWhole(int fd, const std::string& path, bool read_only) {
  struct flock lock {};
  lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return Ok();
  if (errno == EAGAIN || errno == EACCES) {
    return Error{ErrorCode::kState, errno,
                 "lock store " + path + ": it is served by another process or disk already"};
  }
  return SystemError("lock store " + path, errno);
}

bool LiesInMemory(int fd) {
  struct statfs status {};
  return ::fstatfs(fd, &status) == 0 &&
         (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

}  // namespace

Result<std::unique_ptr<FileStore>> FileStore::Open(const std::string& path, bool read_only,
                                                   uint64_t size_bytes_min,
                                                   const DirectIo& direct) {
  UniqueFd fd(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return SystemError("open store " + path, errno);
  Result<uint64_t> size = SizeOf(fd.get(), path);
  if (!size) return size.error();
  if (size.value() < size_bytes_min) {
    return Error{ErrorCode::kStoreSize, 0,
                 "open store " + path + ": it has " + std::to_string(size.value()) +
                     " bytes, the disk needs " + std::to_string(size_bytes_min)};
  }
  Status locked = LockWhole(fd.get(), path, read_only);
  if (!locked) return locked.error();
  const Now now = LiesInMemory(fd.get()) ? Now::kMemory : Now::kCached;
  std::unique_ptr<FileStore> store(new FileStore(std::move(fd), size.value(), now));
  Status chosen = store->ChooseDirect(path, direct);
  if (!chosen) return chosen.error();
  return store;
}

Status FileStore::ChooseDirect(const std::string& path, const DirectIo& direct) {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return SystemError("stat store " + path, errno);
  if (!direct.required && !S_ISBLK(status.st_mode)) return Ok();
  Result<uint32_t> alignment = EnableDirectIo(fd_.get(), path, direct);
  if (alignment) {
    alignment_bytes_ = alignment.value();
    read_now_ = write_now_ = Now::kNever;  // each transfer waits for the device
  } else if (direct.required) {
    return alignment.error();
  } else {
    buffered_because_ = alignment.error().message;
  }
  return Ok();
}

/// A transfer that fell short may end anywhere; the next direct one must begin at a whole unit.
uint64_t FileStore::WholeUnits(uint64_t bytes) const {
  return direct() ? bytes / alignment_bytes_ * alignment_bytes_ : bytes;
}

/// Of ext4 and block devices only reads come this far: they refuse RWF_NOWAIT for buffered writes,
/// which may have to wait for the journal. tmpfs refuses it altogether, and the ring would give
/// each transfer to a worker thread of the kernel.
std::optional<int32_t> FileStore::RunNow(StoreOp& op) {
  const bool reads = op.kind == StoreOp::Kind::kRead;
  if (!reads && op.kind != StoreOp::Kind::kWrite) return std::nullopt;
  std::atomic<Now>& allowed = reads ? read_now_ : write_now_;
  const Now now = allowed.load(std::memory_order_relaxed);
  if (now == Now::kNever) return std::nullopt;
  const int flags = now == Now::kCached ? RWF_NOWAIT : 0;
  while (done_bytes(op) < op.length_bytes) {
    const uint64_t done = done_bytes(op);
    const iovec rest{op.data + done, op.length_bytes - done};
    const auto offset = static_cast<off_t>(op.offset_bytes + done);
    const ssize_t moved = reads ? ::preadv2(fd_.get(), &rest, 1, offset, flags)
                                : ::pwritev2(fd_.get(), &rest, 1, offset, flags);
    if (moved == 0) return -EIO;  // see Continue
    if (moved > 0) {
      done_bytes(op) += static_cast<uint64_t>(moved);
    } else if (errno == EOPNOTSUPP && now == Now::kCached) {
      allowed.store(Now::kNever, std::memory_order_relaxed);
      return std::nullopt;
    } else if (errno == EAGAIN && now == Now::kCached) {
      return std::nullopt;
    } else if (errno != EINTR) {
      return -errno;
    }
  }
  return 0;
}

void FileStore::Start(Ring& ring, StoreOp& op) {
  const uint64_t done = done_bytes(op);
  switch (op.kind) {
    case StoreOp::Kind::kRead:
      ring.Read(op, fd_.get(), op.data + done, static_cast<uint32_t>(op.length_bytes - done),
                op.offset_bytes + done);
      return;
    case StoreOp::Kind::kWrite:
      ring.Write(op, fd_.get(), op.data + done, static_cast<uint32_t>(op.length_bytes - done),
                 op.offset_bytes + done);
      return;
    case StoreOp::Kind::kFlush:
      ring.DataSync(op, fd_.get());
      return;
    case StoreOp::Kind::kPunch:
      ring.Allocate(op, fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op.offset_bytes,
                    op.length_bytes);
      return;
    case StoreOp::Kind::kCache:
      if (direct()) {
        ring.Nop(op);  // nobody would read the page cache
        return;
      }
      ring.Advise(op, fd_.get(), op.offset_bytes, static_cast<uint32_t>(op.length_bytes),
                  POSIX_FADV_WILLNEED);
      return;
    case StoreOp::Kind::kExtents:
      ring.Nop(op);  // the ring cannot seek: Continue does
      return;
    case StoreOp::Kind::kZero:
      ring.Allocate(op, fd_.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, op.offset_bytes,
                    op.length_bytes);
      return;
  }
}

void FileStore::Continue(Ring& ring, StoreOp& op, int32_t result) {
  if (result == -EINTR || result == -EAGAIN) {
    Start(ring, op);
    return;
  }
  if (op.kind == StoreOp::Kind::kExtents && result >= 0) {
    Complete(op, ScanExtents(fd_.get(), op.offset_bytes, op.length_bytes, *op.extents));
    return;
  }
  const bool transfers = op.kind == StoreOp::Kind::kRead || op.kind == StoreOp::Kind::kWrite;
  if (result < 0 || !transfers) {
    // A file system or device says "not supported" in several ways.
    if (!transfers && (result == -EINVAL || result == -ENOSYS || result == -ENODEV) &&
        op.kind != StoreOp::Kind::kFlush) {
      result = -EOPNOTSUPP;
    }
    Complete(op, result < 0 ? result : 0);
    return;
  }
  // Nothing more to read means that the store was cut short behind our back: only bytes that were
  // really read may count as zeros (DESIGN.md section 4), so this is an error.
  const uint64_t done = WholeUnits(done_bytes(op) + static_cast<uint64_t>(result));
  if (done == done_bytes(op)) {
    Complete(op, -EIO);
    return;
  }
  done_bytes(op) = done;
  if (done_bytes(op) < op.length_bytes) {
    Start(ring, op);
  } else {
    Complete(op, 0);
  }
}

}  // namespace keyhold

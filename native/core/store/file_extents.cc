// SPDX-License-Identifier: Apache-2.0
#include "core/store/file_extents.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace keyhold {
namespace {

/// Turns holes, told in ascending order, into extents of whole units. All positions count from the
/// start of the range.
class ExtentBuilder {
 public:
  explicit ExtentBuilder(ExtentList& list) : list_(list) { list_.count = 0; }

  bool full() const { return list_.count == list_.room.size(); }

  void Hole(uint64_t begin, uint64_t end) {
    begin =
        (begin + list_.granularity_bytes - 1) / list_.granularity_bytes * list_.granularity_bytes;
    end = RoundDown(end);
    if (begin >= end) return;
    Add(begin, false);
    Add(end, true);
  }

  /// All is data from the last hole to `end`.
  void DataUntil(uint64_t end) { Add(end, false); }

  uint64_t RoundDown(uint64_t at) const {
    return at / list_.granularity_bytes * list_.granularity_bytes;
  }

 private:
  void Add(uint64_t end, bool hole) {
    if (end <= told_ || full()) return;
    if (list_.count > 0 && list_.room[list_.count - 1].hole == (hole ? 1U : 0U)) {
      list_.room[list_.count - 1].length_bytes += end - told_;
    } else {
      list_.room[list_.count++] = {end - told_, hole ? 1U : 0U};
    }
    told_ = end;
  }

  ExtentList& list_;
  uint64_t told_ = 0;  // all before is in the list
};

/// The range does reach to its end: only then is what has no data a hole.
int32_t CheckFileReaches(int fd, uint64_t end) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return -errno;
  return static_cast<uint64_t>(status.st_size) >= end ? 0 : -EIO;
}

}  // namespace

int32_t ScanExtents(int fd, uint64_t offset_bytes, uint64_t length_bytes, ExtentList& list) {
  if (length_bytes == 0 || list.room.empty()) std::abort();
  ExtentBuilder builder(list);
  const uint64_t end = offset_bytes + length_bytes;
  uint64_t at = offset_bytes;
  bool seek_data = true;
  for (int seeks = 0; at < end && !builder.full(); ++seeks) {
    if (seeks == kExtentSeeksMax) {
      builder.DataUntil(builder.RoundDown(at - offset_bytes));
      // Nothing told after so many: then it is too finely broken to be worth a word.
      if (list.count == 0) builder.DataUntil(length_bytes);
      return 0;
    }
    const off_t found = ::lseek(fd, static_cast<off_t>(at), seek_data ? SEEK_DATA : SEEK_HOLE);
    uint64_t next = end;
    if (found >= 0) {
      next = std::min(static_cast<uint64_t>(found), end);
    } else if (errno == EINVAL && seeks == 0) {
      return -EOPNOTSUPP;
    } else if (errno != ENXIO) {
      return -errno;
    } else if (const int32_t reaches = CheckFileReaches(fd, end); reaches < 0) {
      return reaches;
    }
    if (seek_data) builder.Hole(at - offset_bytes, next - offset_bytes);
    at = next;
    seek_data = !seek_data;
  }
  if (!builder.full()) builder.DataUntil(length_bytes);
  return 0;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/result.h"

namespace keyhold::secret {

/// Whole pages that hold secrets, zeroed, with a PROT_NONE page on either side.
///
///   base              data                                data + data_bytes
///    │ guard page (1)  │ secret pages                      │ guard page (1) │
struct SecretPages {
  uint8_t* base = nullptr;
  size_t base_bytes = 0;
  uint8_t* data = nullptr;
  size_t data_bytes = 0;
};

/// Maps at least `bytes`. kNoMemory names RLIMIT_MEMLOCK where that is the cause; nothing stays
/// mapped.
Result<SecretPages> MapSecretPages(size_t bytes);

/// Zeroes and unmaps.
void UnmapSecretPages(const SecretPages& pages);

/// True when this kernel gives memfd_secret; else the mlock fallback is in use.
bool HasMemfdSecret();

}  // namespace keyhold::secret

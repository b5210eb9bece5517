// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <cstdlib>

namespace keyhold::fuzz {

/// Ends the process unless `holds`; the fuzzer then keeps the input that led here.
inline void Require(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", claim);
  std::abort();
}

}  // namespace keyhold::fuzz

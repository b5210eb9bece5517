// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace keyhold::testing {

/// A generator whose seed every failure names through SCOPED_TRACE(random.Trace()). Set
/// KEYHOLD_SEED to replay one.
class Random {
 public:
  Random() : seed_(FromEnvironment()), engine_(seed_) {}

  uint64_t Below(uint64_t bound) { return engine_() % bound; }

  std::vector<uint8_t> Bytes(size_t count) {
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(engine_());
    return bytes;
  }

  std::string Trace() const { return "KEYHOLD_SEED=" + std::to_string(seed_); }

 private:
  static uint64_t FromEnvironment() {
    const char* seed = std::getenv("KEYHOLD_SEED");
    return seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device{}();
  }

  uint64_t seed_;
  std::mt19937_64 engine_;
};

}  // namespace keyhold::testing

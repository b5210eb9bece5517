// SPDX-License-Identifier: Apache-2.0
#include "core/tls/psk_table.h"

#include <utility>

namespace keyhold {
namespace {

int HexValue(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

/// Straight into secret memory: the file's text is the only other place where the key stands.
Result<SecretBuffer> ReadKey(const std::string& where, std::string_view hex) {
  if (hex.size() % 2 != 0 || hex.size() < 2 * PskTable::kKeyBytesMin ||
      hex.size() > 2 * PskTable::kKeyBytesMax) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 where + ": key of " + std::to_string(hex.size()) + " hex digits, expected " +
                     std::to_string(2 * PskTable::kKeyBytesMin) + " to " +
                     std::to_string(2 * PskTable::kKeyBytesMax) + " and an even number"};
  }
  Result<SecretBuffer> key = SecretBuffer::Allocate(hex.size() / 2);
  if (!key) return key.error();
  for (size_t i = 0; i < hex.size() / 2; ++i) {
    const int high = HexValue(hex[2 * i]);
    const int low = HexValue(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      return Error{ErrorCode::kInvalidArgument, 0, where + ": the key is not hexadecimal"};
    }
    key.value().bytes()[i] = static_cast<uint8_t>(16 * high + low);
  }
  return key.Take();
}

}  // namespace

Result<PskTable> PskTable::Parse(const std::string& path, std::string_view text) {
  PskTable table;
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const std::string where = "psk file " + path + ", line " + std::to_string(number);
    const size_t colon = line.rfind(':');  // a name may hold colons, a key cannot
    if (colon == std::string_view::npos || colon == 0 || colon > kIdentityBytesMax) {
      return Error{ErrorCode::kInvalidArgument, 0,
                   where + ": expected a name of 1 to " + std::to_string(kIdentityBytesMax) +
                       " bytes, a colon and a key in hexadecimal"};
    }
    Result<SecretBuffer> key = ReadKey(where, line.substr(colon + 1));
    if (!key) return key.error();
    if (table.keys_.size() == kIdentitiesMax) {
      return Error{ErrorCode::kInvalidArgument, 0,
                   where + ": more than " + std::to_string(kIdentitiesMax) + " names"};
    }
    if (!table.keys_.try_emplace(std::string(line.substr(0, colon)), key.Take()).second) {
      return Error{ErrorCode::kInvalidArgument, 0, where + ": the name stands there twice"};
    }
  }
  if (table.empty()) {
    return Error{ErrorCode::kInvalidArgument, 0, "psk file " + path + ": holds no key"};
  }
  return table;
}

const SecretBuffer* PskTable::Find(std::string_view identity) const {
  const auto found = keys_.find(identity);
  return found == keys_.end() ? nullptr : &found->second;
}

}  // namespace keyhold

// SPDX-License-Identifier: Apache-2.0
#include "core/xts/double_cipher.h"

#include <algorithm>
#include <utility>

#include "core/secret/secret_buffer.h"

namespace keyhold::xts {
namespace {

/// Both passes go over this much before the next piece: it stays in the first-level cache, so that
/// memory is visited once. Whole sectors of either size.
constexpr size_t kPieceBytes = 16 * 1024;

class DoubleCipher final : public Cipher {
 public:
  DoubleCipher(std::unique_ptr<Cipher> inner, std::unique_ptr<Cipher> outer)
      : inner_(std::move(inner)), outer_(std::move(outer)) {}

  /// What the second pass reads is what the first one wrote, in place. Out of place, `in` and `out`
  /// are disjoint or equal, and so are their pieces.
  void EncryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    ForEachPiece(length_bytes, [&](size_t at, size_t piece) {
      const uint64_t unit = first_unit + at / 512;
      inner_->EncryptRun(in + at, out + at, piece, unit);
      outer_->EncryptRun(out + at, out + at, piece, unit + kInnerHeaderUnits);
    });
  }

  void DecryptRun(const uint8_t* in, uint8_t* out, size_t length_bytes,
                  uint64_t first_unit) const override {
    ForEachPiece(length_bytes, [&](size_t at, size_t piece) {
      const uint64_t unit = first_unit + at / 512;
      outer_->DecryptRun(in + at, out + at, piece, unit + kInnerHeaderUnits);
      inner_->DecryptRun(out + at, out + at, piece, unit);
    });
  }

  void Wipe() override {
    inner_->Wipe();
    outer_->Wipe();
  }

  std::string_view kernel() const override { return inner_->kernel(); }

 private:
  template <typename Use>
  static void ForEachPiece(size_t length_bytes, Use use) {
    for (size_t at = 0; at < length_bytes; at += kPieceBytes) {
      use(at, std::min(kPieceBytes, length_bytes - at));
    }
  }

  const std::unique_ptr<Cipher> inner_;
  const std::unique_ptr<Cipher> outer_;
};

bool ShareAHalf(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  constexpr size_t kHalf = kDekBytes / 2;
  const bool data = SecretEqual(a.first(kHalf), b.first(kHalf));
  const bool tweak = SecretEqual(a.last(kHalf), b.last(kHalf));
  return data || tweak;
}

}  // namespace

Result<std::unique_ptr<Cipher>> CreateDoubleCipher(std::string_view kernel,
                                                   std::span<const uint8_t> inner_dek,
                                                   std::span<const uint8_t> outer_dek,
                                                   uint32_t sector_size_bytes) {
  Result<std::unique_ptr<Cipher>> inner = CreateCipher(kernel, inner_dek, sector_size_bytes);
  if (!inner) return inner;
  Result<std::unique_ptr<Cipher>> outer = CreateCipher(kernel, outer_dek, sector_size_bytes);
  if (!outer) return outer;
  if (ShareAHalf(inner_dek, outer_dek)) {
    return Error{ErrorCode::kInvalidArgument, 0,
                 "create cipher: the inner and the outer dek share a key"};
  }
  return std::unique_ptr<Cipher>(new DoubleCipher(inner.Take(), outer.Take()));
}

}  // namespace keyhold::xts

// Sizes of a block of queries, and where its arrays lie in its scratch. For *.isa.cpp only.
#pragma once

#include "kernels/tile.hpp"
#include "ops/attention/attention_args.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace attention;
using Index = std::int64_t;

inline constexpr float kLog2e = 1.44269504088896341f;
#if defined(__AVX512F__)
inline constexpr int kRowVectors = 3;  // 24 sums of a tile, 3 vectors of queries, 1 element of the keys
#else
inline constexpr int kRowVectors = 2;
#endif
inline constexpr Index kRowLanes = kRowVectors * kLanes;
inline constexpr Index kKeyBlock = 64;
static_assert(kRowLanes <= kMaxRowLanes && kKeyBlock <= kMaxKeyBlock && kKeyBlock % kLanes == 0);

MAMBASDK_SIMD Index min64(Index a, Index b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD Index whole_vectors(Index n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

// Where a block's arrays lie in its scratch, in floats.
struct BlockPlan {
  Index queries, scores, sums, mask, keys, values, size;

  explicit BlockPlan(const Args& a) {
    Index used = 0;
    const auto place = [&](Index floats) {
      const Index at = used;
      used += (floats + 15) / 16 * 16;
      return at;
    };
    queries = place(whole_vectors(a.width) * kRowLanes);
    scores = place(kKeyBlock * kRowLanes);
    sums = place(whole_vectors(a.value_width) * kRowLanes);
    mask = place(a.mask.data != nullptr ? kKeyBlock * kRowLanes : 0);
    keys = place(kKeyBlock * a.width);
    values = place(kKeyBlock * a.value_width);
    size = used;
  }
};

// f(height, i): tiles of `height` rows (a constant) from row i on, which together cover [0, n).
template <class F>
MAMBASDK_SIMD void for_tiles(Index n, F&& f) {
  Index i = 0;
  for (; i + kTileRows <= n; i += kTileRows) f(std::integral_constant<int, kTileRows>{}, i);
  if constexpr (kTileRows > 4) {
    if (i + 4 <= n) {
      f(std::integral_constant<int, 4>{}, i);
      i += 4;
    }
  }
  if (i + 2 <= n) {
    f(std::integral_constant<int, 2>{}, i);
    i += 2;
  }
  if (i < n) f(std::integral_constant<int, 1>{}, i);
}

// Rows of float32, `stride` apart.
struct Matrix {
  const float* data;
  Index stride;
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

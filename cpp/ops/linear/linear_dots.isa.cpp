// The product of a few dozen rows: dot products in register tiles. Neither x nor the weights are packed, which would
// cost as much as so short a product itself.
#include "ops/linear/linear.hpp"
#include "ops/rows_simd.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace linear;
using Index = std::int64_t;

// A tile has kLanes sums, so that one tree of shuffles makes one vector of them.
constexpr int kRows = kLanes == 4 ? 2 : 4;
constexpr int kOutputs = kLanes / kRows;

template <class W>
struct Tile {
  const float* x[kRows];
  const W* w[kOutputs];
};

// Lane r * kOutputs + o: the product of row r and output o.
template <class W>
MAMBASDK_SIMD vf products(const Tile<W>& t, Index n) {
  vf sum[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) sum[i] = zero();
  Index p = 0;
  for (; p + kLanes <= n; p += kLanes) {
    vf w[kOutputs];
#pragma GCC unroll 16
    for (int o = 0; o < kOutputs; ++o) w[o] = load(t.w[o] + p);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const vf x = load(t.x[r] + p);
#pragma GCC unroll 16
      for (int o = 0; o < kOutputs; ++o) sum[r * kOutputs + o] = fma(x, w[o], sum[r * kOutputs + o]);
    }
  }
  if (p < n) {
    const int left = static_cast<int>(n - p);
    for (int r = 0; r < kRows; ++r) {
      const vf x = load_n(t.x[r] + p, left);
      for (int o = 0; o < kOutputs; ++o) {
        sum[r * kOutputs + o] = fma(x, load_n(t.w[o] + p, left), sum[r * kOutputs + o]);
      }
    }
  }
  return reduce_vectors(sum);
}

// Outputs [first, first + kOutputs) of all rows: their weights stay in the first-level cache. What a tile has too much
// repeats the last row or output and is not stored.
template <class W>
[[gnu::noinline]] void output_block(const StreamArgs& a, Index first) {
  const Index outputs = a.out_features - first < kOutputs ? a.out_features - first : kOutputs;
  Tile<W> tile;
  float bias[kOutputs] = {};
  for (int o = 0; o < kOutputs; ++o) {
    const Index at = first + (o < outputs ? o : outputs - 1);
    tile.w[o] = row_of<W>(a.weight, at);
    if (a.bias.data != nullptr) bias[o] = *read_row(a.bias, 0, bias + o, 1, at);
  }
  for (Index row = 0; row < a.rows; row += kRows) {
    const Index rows = a.rows - row < kRows ? a.rows - row : kRows;
    for (int r = 0; r < kRows; ++r) tile.x[r] = a.x + (row + (r < rows ? r : rows - 1)) * a.x_stride;
    alignas(64) float sums[kLanes];
    store(sums, products(tile, a.in_features));
    for (Index r = 0; r < rows; ++r) {
      float* sum = sums + r * kOutputs;
      for (int o = 0; o < kOutputs; ++o) sum[o] += bias[o];
      write_out(sum, a.y, a.y_type, (row + r) * a.out_features + first, outputs);
    }
  }
}

template <class W>
void dots(const StreamArgs& a, const Parallel& parallel) {
  const Index work = kOutputs * a.rows * (a.in_features + kLanes);
  parallel((a.out_features + kOutputs - 1) / kOutputs, 65536 / work > 1 ? 65536 / work : 1,
           [&](Index begin, Index end) {
             for (Index i = begin; i < end; ++i) output_block<W>(a, i * kOutputs);
           });
}

}  // namespace

void linear_dots(const StreamArgs& a, const Parallel& parallel) {
  with_type(a.weight.type, [&]<class W>(W) { dots<W>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA

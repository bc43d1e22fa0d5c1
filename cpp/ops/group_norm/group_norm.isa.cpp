// Statistics of columns, in parts whose second pass finds them in the first-level cache, and the affine map that
// follows.
#include "ops/group_norm/group_norm.hpp"

#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace group_norm;
using Index = std::int64_t;
constexpr int kVectors = kLanes == 16 ? 8 : 4;  // as many as there are registers for

// `lanes` of V vectors side by side over n rows, all less `pivot`: their means, and the sums of squares of what they
// differ from these.
template <int V, class T>
MAMBASDK_SIMD void part_of(const T* in, const T* pivots, Index stride, Index n, int lanes, float* mean, float* square) {
  vf pivot[V], sum[V] = {}, deviation[V] = {};
  for (int v = 0; v < V; ++v) pivot[v] = load_n(pivots + v * kLanes, lanes);
  for (Index r = 0; r < n; ++r)
    for (int v = 0; v < V; ++v) sum[v] = sum[v] + (load_n(in + r * stride + v * kLanes, lanes) - pivot[v]);
  for (int v = 0; v < V; ++v) sum[v] = sum[v] / static_cast<float>(n);
  for (Index r = 0; r < n; ++r) {
    for (int v = 0; v < V; ++v) {
      const vf d = (load_n(in + r * stride + v * kLanes, lanes) - pivot[v]) - sum[v];
      deviation[v] = fma(d, d, deviation[v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    store_n(mean + v * kLanes, sum[v], lanes);
    store_n(square + v * kLanes, deviation[v], lanes);
  }
}

template <class T>
[[gnu::noinline]] void part_columns(const T* in, const T* pivots, Index stride, Index n, Index columns, float* mean,
                                    float* square) {
  Index c = 0;
  const auto whole = [&]<int V>(std::integral_constant<int, V>) __attribute__((always_inline)) {
    for (; c + V * kLanes <= columns; c += V * kLanes)
      part_of<V>(in + c, pivots + c, stride, n, kLanes, mean + c, square + c);
  };
  whole(std::integral_constant<int, kVectors>{});
  whole(std::integral_constant<int, kVectors / 2>{});
  for_lanes(columns - c, [&](Index i, int lanes) __attribute__((always_inline)) {
    part_of<1>(in + c + i, pivots + c + i, stride, n, lanes, mean + c + i, square + c + i);
  });
}

template <class T>
void all_parts(const ColumnArgs& a, const Parallel& parallel) {
  const Index blocks = (a.columns + kPartColumns - 1) / kPartColumns;
  const Index work = kPartRows * (a.columns < kPartColumns ? a.columns : kPartColumns);
  parallel(a.batch * a.parts * blocks, work < 16384 ? 16384 / work : 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index part = i / blocks, column = i % blocks * kPartColumns;
      const Index row = part % a.parts * kPartRows, left = a.columns - column;
      const T* pivots = static_cast<const T*>(a.x) + part / a.parts * a.batch_stride + column;
      float* out = a.partial + part * 2 * a.columns + column;
      part_columns(pivots + row * a.row_stride, pivots, a.row_stride,
                   a.rows - row < kPartRows ? a.rows - row : kPartRows, left < kPartColumns ? left : kPartColumns, out,
                   out + a.columns);
    }
  });
}

// The sum over parts of f(part, how many rows it has), in groups: one long float32 sum would lose digits.
template <class F>
MAMBASDK_SIMD vf sum_parts(const ColumnArgs& a, F&& f) {
  constexpr Index kGroup = 32;
  vf total = zero();
  for (Index g = 0; g < a.parts; g += kGroup) {
    vf sum = zero();
    const Index end = g + kGroup < a.parts ? g + kGroup : a.parts;
    for (Index p = g; p < end; ++p) {
      const Index left = a.rows - p * kPartRows;
      sum = sum + f(p, set1(static_cast<float>(left < kPartRows ? left : kPartRows)));
    }
    total = total + sum;
  }
  return total;
}

}  // namespace

void column_statistics(const ColumnArgs& a, const Parallel& parallel) {
  with_type(a.type, [&]<class T>(T) { all_parts<T>(a, parallel); });
  const Index vectors = (a.columns + kLanes - 1) / kLanes, work = 2 * kLanes * a.parts;
  parallel(a.batch * vectors, work < 16384 ? 16384 / work : 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index b = i / vectors, c = i % vectors * kLanes;
      const int lanes = a.columns - c < kLanes ? static_cast<int>(a.columns - c) : kLanes;
      const float* part = a.partial + b * a.parts * 2 * a.columns + c;
      const auto mean_of = [&](Index p) { return load_n(part + p * 2 * a.columns, lanes); };
      const vf mean = sum_parts(a, [&](Index p, vf n) { return n * mean_of(p); }) / static_cast<float>(a.rows);
      const vf square = sum_parts(a, [&](Index p, vf n) {
        const vf d = mean_of(p) - mean;
        return fma(n * d, d, load_n(part + (p * 2 + 1) * a.columns, lanes));
      });
      float* out = a.out + b * 2 * a.columns + c;
      store_n(out, mean, lanes);
      store_n(out + a.columns, square, lanes);
    }
  });
}

namespace {

template <bool kMean, class T>
[[gnu::noinline]] void affine_row(const T* in, const float* mean, const float* scale, const float* shift, Index n,
                                  T* out) {
  for_lanes(n, [&](Index i, int lanes) __attribute__((always_inline)) {
    vf x = load_n(in + i, lanes);
    if constexpr (kMean) x = x - load_n(mean + i, lanes);
    store_n(out + i, fma(x, load_n(scale + i, lanes), load_n(shift + i, lanes)), lanes);
  });
}

template <class T>
void affine(const AffineArgs& a, const Parallel& parallel) {
  parallel(a.batch * a.rows, a.columns < 16384 ? 16384 / a.columns : 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index b = i / a.rows, r = i % a.rows, table = b * a.table_stride;
      const T* in =
          static_cast<const T*>(a.x) + (a.offset != nullptr ? a.offset[i] : b * a.batch_stride + r * a.row_stride);
      T* out = static_cast<T*>(a.y) + b * a.y_batch_stride + r * a.columns;
      const Index n = r + 1 < a.rows ? a.columns : a.last_columns;
      if (a.mean != nullptr) {
        affine_row<true>(in, a.mean + table, a.scale + table, a.shift + table, n, out);
      } else {
        affine_row<false>(in, a.mean, a.scale + table, a.shift + table, n, out);
      }
    }
  });
}

}  // namespace

void affine_columns(const AffineArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.type == dtype::bf16, affine_columns(a, parallel));
  with_own_type(a.type, [&]<class T>(T) { affine<T>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA

// Where the extremes are: a value and its row for each column, or for each lane of a column that lies in one run.
#include "ops/reduce/reduce.hpp"
#include "ops/reduce/reduce_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace reduce;
using Index = std::int64_t;

MAMBASDK_SIMD vi pick(vi mask, vi yes, vi no) {
  return (yes & mask) | (no & ~mask);
}
MAMBASDK_SIMD void store_indices(std::int32_t* p, vi x, int n) {
  store_n(reinterpret_cast<float*>(p), (vf)x, n);
}
// Rows [0, rows), `stride` elements apart, of kVectors vectors of columns or, kVectors being 0, of the last `count`.
template <class R, int kVectors, class T>
MAMBASDK_SIMD void best_columns(const T* x, Index stride, Index rows, Index begin, int count, float* values,
                                std::int32_t* indices) {
  constexpr int kUsed = kVectors > 0 ? kVectors : 1;
  const auto read = [&](int v) __attribute__((always_inline)) {
    return kVectors > 0 ? load(x + v * kLanes) : load_n(x, count);
  };
  vf best[kUsed];
  vi where[kUsed];
  for (int v = 0; v < kUsed; ++v) {
    best[v] = read(v);
    where[v] = vi{} + static_cast<std::int32_t>(begin);
  }
  for (Index r = 1; r < rows; ++r) {
    x += stride;
    const vi here = vi{} + static_cast<std::int32_t>(begin + r);
    for (int v = 0; v < kUsed; ++v) {
      const vf value = read(v);
      const vi better = R::is_better(value, best[v]);
      best[v] = select(better, value, best[v]);
      where[v] = pick(better, here, where[v]);
    }
  }
  for (int v = 0; v < kUsed; ++v) {
    store_n(values + v * kLanes, best[v], count);
    store_indices(indices + v * kLanes, where[v], count);
  }
}

template <class R, class T>
[[gnu::noinline]] void best_of_columns(const T* x, Index stride, const Block& b, float* values, std::int32_t* indices) {
  const Index rows = b.end - b.begin;
  Index i = 0;
  for (; i + 4 * kLanes <= b.n; i += 4 * kLanes)
    best_columns<R, 4>(x + i, stride, rows, b.begin, kLanes, values + i, indices + i);
  for (; i + kLanes <= b.n; i += kLanes)
    best_columns<R, 1>(x + i, stride, rows, b.begin, kLanes, values + i, indices + i);
  if (i < b.n) best_columns<R, 0>(x + i, stride, rows, b.begin, static_cast<int>(b.n - i), values + i, indices + i);
}

// The first of n elements, at most a few thousand, that is `value`, or NaN where that is.
Index first_place(const float* x, Index n, float value) {
  const vf sought = set1(value), none = set1(0x1p20f);
  vf place = zero(), first = none;
  for (int i = 0; i < kLanes; ++i) place[i] = static_cast<float>(i);
  for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) {
    const vf v = load_n(x + i, count);
    const vi found = ((v == sought) | ((v != v) & (sought != sought))) & (place < static_cast<float>(n));
    first = min(first, select(found, place, none));
    place = place + static_cast<float>(kLanes);
  });
  return static_cast<Index>(joined_lanes<Minimum>(first));
}

template <class R>
void best_of_run(const Matrices& a, const Block& b, Index column, float& value, std::int32_t& index) {
  constexpr Index kPiece = 1024;
  alignas(64) float buffer[kPiece];
  for (Index at = b.begin; at < b.end; at += kPiece) {
    const Index n = b.end - at < kPiece ? b.end - at : kPiece;
    const float* x = read_run(a, b.matrix, column, at, n, buffer);
    const float best = reduce_run<R>(x, n);
    if (at > b.begin && !R::is_better(best, value)) continue;
    value = best;
    index = static_cast<std::int32_t>(at + first_place(x, n, best));
  }
}

template <class R>
void best_of_strided(const Matrices& a, const Block& b, float* values, std::int32_t* indices) {
  alignas(64) float buffer[kColumns];
  for (Index row = b.begin; row < b.end; ++row) {
    const float* x = read_columns(a, b.matrix, row, b.first, b.n, buffer);
    for (Index c = 0; c < b.n; ++c) {
      if (row > b.begin && !R::is_better(x[c], values[c])) continue;
      values[c] = x[c];
      indices[c] = static_cast<std::int32_t>(row);
    }
  }
}

template <class R>
void argument_of(const ArgumentArgs& a, const Parallel& parallel) {
  const Matrices& m = a.matrices;
  const Index parts = part_count(m), blocks = block_count(m);
  const bool by_column = is_by_column(m);
  parallel(m.count * parts * blocks, grain_of(m, parts), [&](Index begin, Index end) {
    alignas(64) float buffer[kColumns];
    for (Index i = begin; i < end; ++i) {
      const Block b = block_of(m, i, parts);
      const Index at = (b.matrix * parts + b.part) * m.columns + b.first;
      float* values = parts > 1 ? a.values + at : buffer;
      std::int32_t* indices = (parts > 1 ? a.indices : a.y) + at;
      if (by_column) {
        for (Index c = 0; c < b.n; ++c) best_of_run<R>(m, b, b.first + c, values[c], indices[c]);
      } else if (m.column_stride == 1) {
        with_own_type(m.matrix.type, [&]<class T>(T) __attribute__((always_inline)) {
          const T* x = static_cast<const T*>(m.matrix.data) + m.offset(b.matrix, b.begin, b.first);
          best_of_columns<R>(x, m.matrix.element_stride, b, values, indices);
        });
      } else {
        best_of_strided<R>(m, b, values, indices);
      }
    }
  });
  if (parts == 1) return;
  parallel(m.count * blocks, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Block b = block_of(m, i, 1);
      for (Index c = b.first; c < b.first + b.n; ++c) {
        Index best = b.matrix * parts * m.columns + c;
        for (Index part = 1; part < parts; ++part) {
          const Index other = (b.matrix * parts + part) * m.columns + c;
          if (R::is_better(a.values[other], a.values[best])) best = other;
        }
        a.y[b.matrix * m.columns + c] = a.indices[best];
      }
    }
  });
}

}  // namespace

void argument_rows(const ArgumentArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(false, argument_rows(a, parallel));
  return a.smallest ? argument_of<Minimum>(a, parallel) : argument_of<Maximum>(a, parallel);
}

}  // namespace mambasdk::MAMBASDK_ISA

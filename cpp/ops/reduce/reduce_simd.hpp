// What results are joined by, and parts of matrices, for the reductions. For *.isa.cpp only.
#pragma once

#include "ops/reduce/reduce.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

struct Sum {
  static constexpr float kStart = 0.0f;
  template <class V>
  MAMBASDK_SIMD V join(V a, V b) {
    return a + b;
  }
};
struct Product {
  static constexpr float kStart = 1.0f;
  template <class V>
  MAMBASDK_SIMD V join(V a, V b) {
    return a * b;
  }
};
// NaN where one of them is: the comparison with itself keeps it. is_better: whether x, which comes later, takes the
// place of `best`.
struct Maximum {
  static constexpr float kStart = -__builtin_inff();
  template <class V>
  MAMBASDK_SIMD auto is_better(V x, V best) {
    return (x > best) | ((x != x) & (best == best));
  }
  MAMBASDK_SIMD vf join(vf a, vf b) { return select((a > b) | (a != a), a, b); }
  MAMBASDK_SIMD float join(float a, float b) { return a > b || a != a ? a : b; }
};
struct Minimum {
  static constexpr float kStart = __builtin_inff();
  template <class V>
  MAMBASDK_SIMD auto is_better(V x, V best) {
    return (x < best) | ((x != x) & (best == best));
  }
  MAMBASDK_SIMD vf join(vf a, vf b) { return select((a < b) | (a != a), a, b); }
  MAMBASDK_SIMD float join(float a, float b) { return a < b || a != a ? a : b; }
};

// The lanes of a vector joined into one: halves onto each other, in a fixed tree.
template <int kStep>
struct Folded {
  static constexpr int at(int j) { return (j + kStep) % kLanes; }
};
template <class R>
MAMBASDK_SIMD float joined_lanes(vf x) {
  if constexpr (kLanes > 8) x = R::join(x, shuffle<Folded<8>>(x, x));
  if constexpr (kLanes > 4) x = R::join(x, shuffle<Folded<4>>(x, x));
  x = R::join(x, shuffle<Folded<2>>(x, x));
  x = R::join(x, shuffle<Folded<1>>(x, x));
  return x[0];
}

// n elements that lie in one run.
template <class R, class T>
[[gnu::noinline]] float reduce_run(const T* x, std::int64_t n) {
  constexpr int kVectors = 4;
  vf results[kVectors];
  for (vf& result : results) result = set1(R::kStart);
  std::int64_t i = 0;
  for (; i + kVectors * kLanes <= n; i += kVectors * kLanes) {
    for (int v = 0; v < kVectors; ++v) results[v] = R::join(results[v], load(x + i + v * kLanes));
  }
  for (; i + kLanes <= n; i += kLanes) results[0] = R::join(results[0], load(x + i));
  float rest = R::kStart;
  for (std::int64_t j = i; j < n; ++j) rest = R::join(rest, to_float(x[j]));
  if (i == 0) return rest;
  return R::join(joined_lanes<R>(R::join(R::join(results[0], results[1]), R::join(results[2], results[3]))), rest);
}

// n columns from `first` on, of one row of one matrix.
MAMBASDK_SIMD const float* read_columns(const Matrices& a, std::int64_t matrix, std::int64_t row, std::int64_t first,
                                        std::int64_t n, float* buffer) {
  return with_own_type(a.matrix.type, [&]<class T>(T) __attribute__((always_inline)) -> const float* {
    const T* from = static_cast<const T*>(a.matrix.data) + a.offset(matrix, row, first);
    if constexpr (std::is_same_v<T, float>) {
      if (a.column_stride == 1) return from;
    }
    widen(from, a.column_stride, buffer, n);
    return buffer;
  });
}

// n rows from `first` on, of one column of one matrix.
MAMBASDK_SIMD const float* read_run(const Matrices& a, std::int64_t matrix, std::int64_t column, std::int64_t first,
                                    std::int64_t n, float* buffer) {
  return with_own_type(a.matrix.type, [&]<class T>(T) __attribute__((always_inline)) -> const float* {
    const T* from = static_cast<const T*>(a.matrix.data) + a.offset(matrix, first, column);
    if constexpr (std::is_same_v<T, float>) {
      if (a.matrix.element_stride == 1) return from;
    }
    widen(from, a.matrix.element_stride, buffer, n);
    return buffer;
  });
}

// What one task reduces: rows [begin, end) of columns [first, first + n) of one matrix.
struct Block {
  std::int64_t matrix, part, begin, end, first, n;
};
MAMBASDK_SIMD Block block_of(const Matrices& a, std::int64_t i, std::int64_t parts) {
  const std::int64_t blocks = reduce::block_count(a);
  Block b;
  const std::int64_t row = blocks > 1 ? i / blocks : i;  // divisions take longer than short rows
  b.first = (i - row * blocks) * reduce::kColumns;
  b.n = a.columns - b.first < reduce::kColumns ? a.columns - b.first : reduce::kColumns;
  b.matrix = parts > 1 ? row / parts : row;
  b.part = row - b.matrix * parts;
  const std::int64_t length = parts > 1 ? reduce::part_rows(a) : a.rows;
  b.begin = b.part * length;
  b.end = b.begin + length < a.rows ? b.begin + length : a.rows;
  return b;
}

// Tasks that together are worth a thread's while.
MAMBASDK_SIMD std::int64_t grain_of(const Matrices& a, std::int64_t parts) {
  const std::int64_t columns = a.columns < reduce::kColumns ? a.columns : reduce::kColumns;
  const std::int64_t length = parts > 1 ? reduce::part_rows(a) : a.rows;
  const std::int64_t work = (length < 1 ? 1 : length < 65536 ? length : 65536) * columns;
  return work < 65536 ? 65536 / work : 1;
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

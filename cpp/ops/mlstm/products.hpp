// Products within one chunk of mlstm, of triangles and with the state. For *.isa.cpp only.
#pragma once

#include "ops/mlstm/gates.hpp"

namespace mambasdk::MAMBASDK_ISA {

// c (steps,columns) = or += a b, of a lower triangle a (steps,steps): row t takes cells up to t.
__attribute__((noinline)) inline void lower_product(float* c, Index ldc, const float* a, Index lda, const float* b,
                                                    Index ldb, Index rows, Index columns, bool add) {
  for_stripes(columns, [&](Index j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (Index r = 0; r < rows; r += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      if (add) load_tile(acc, c + r * ldc + j, ldc);
      multiply<FloatCells>(acc, a + r * lda, lda, b + j, ldb, r + kProductRows);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
}
// c += a b, of an upper triangle a (steps,steps): row s takes cells from s to `count`.
__attribute__((noinline)) inline void add_upper_product(float* c, Index ldc, const float* a, Index lda, const float* b,
                                                        Index ldb, Index count, Index columns) {
  for_stripes(columns, [&](Index j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (Index r = 0; r < count; r += kProductRows) {
      vf acc[kProductRows][NV];
      load_tile(acc, c + r * ldc + j, ldc);
      multiply<FloatCells>(acc, a + r * lda + r, lda, b + r * ldb + j, ldb, count - r);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
}
// The lower triangle, and what of the tiles of columns lies above it, of a b: (steps, k) by (k, steps).
__attribute__((noinline)) inline void triangle(float* c, const float* a, Index lda, const float* b, Index steps,
                                               Index k) {
  for (Index j = 0; j < steps; j += kTriangleColumns)
    product<FloatCells>(c + j * steps + j, steps, a + j * lda, lda, b + j, steps, steps - j,
                        min64(kTriangleColumns, steps - j), k, false);
}

// Row r of (rows,columns) times scale[r].
MAMBASDK_SIMD void scale_rows(float* c, Index ld, Index rows, Index columns, const float* scale) {
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; j += kLanes) store(c + r * ld + j, load(c + r * ld + j) * scale[r]);
}
// Column r of (rows,columns) times scale[r].
MAMBASDK_SIMD void scale_columns(float* c, Index ld, Index rows, Index columns, const float* scale) {
  for (Index r = 0; r < rows; ++r)
    for (Index j = 0; j < columns; j += kLanes) store(c + r * ld + j, load(c + r * ld + j) * load(scale + j));
}

// Scores times their weights, zero above the diagonal as far as its vectors go; and the normaliser at each step, with
// what the state before the chunk has of it.
__attribute__((noinline)) inline void weigh(float* scores, Gates& gates, const Dims& d, const float* q,
                                            const float* state, Index count) {
  for (Index t = 0; t < d.steps; ++t) {
    vf sum = zero();
    for (Index s = 0; s <= t; s += kLanes) {
      const vf score = load(scores + t * d.steps + s) * weights_at(gates, t, s);
      store(scores + t * d.steps + s, score);
      sum += score;
    }
    gates.normaliser[t] = reduce_add(sum);
  }
  for (Index t = 0; t < count; ++t)
    gates.normaliser[t] += gates.from_begin[t] * dot(q + t * d.width, state + d.width * d.width, d.width);
}

// state = through state + turned_keys (width,steps) values (steps,width), whose column for n is `ones`: n = through n +
// the sum of keys (steps,width) times their `scale` and `ones`, of which null is 1 everywhere.
__attribute__((noinline)) inline void carry(float* state, const Dims& d, float through, const float* turned_keys,
                                            const float* values, const float* keys, const float* scale,
                                            const float* ones, Index count) {
  for_stripes(d.width, [&](Index j, auto stripe) __attribute__((always_inline)) {
    constexpr int NV = decltype(stripe)::value;
    for (Index e = 0; e < d.width; e += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      multiply<FloatCells>(acc, turned_keys + e * d.steps, d.steps, values + j, d.width, count);
      add_tile(acc, set1(through), state + e * d.width + j, d.width);
      store_tile(acc, state + e * d.width + j, d.width);
    }
  });
  float* n = state + d.width * d.width;
  for (Index j = 0; j < d.width; j += kLanes) {
    vf sum = load(n + j) * through;
    for (Index t = 0; t < count; ++t)
      sum += load(keys + t * d.width + j) * (ones != nullptr ? scale[t] * ones[t] : scale[t]);
    store(n + j, sum);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA

// The two passes of the backward scan over a segment of one channel block: forward with the states kept, then in
// reverse with the gradients. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_tile.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kMostStates = 8;  // states in registers; each needs two vectors
#else
constexpr int kMostStates = 4;
#endif

// Recomputes the states of a segment and keeps decay a_t (`decays`, rows of kStates vectors) and state h_t (`states`,
// the same, row t + 1; row 0 is the state that enters). y is added to.
template <int kStates, class Exp2, bool kOutput>
__attribute__((noinline)) void sweep(Index steps, Index row, const float* dt, const float* dx, const float* B,
                                     const float* C, const float* A, float* state, float* decays, float* states,
                                     float* y, const Ahead& ahead, Index first) {
  constexpr Index kRow = kStates * kLanes;
  const Exp2 exp2_of = Exp2::make();
  vf h[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    h[n] = load(state + n * kLanes);
    store(states + n * kLanes, h[n]);
  }
  for (Index t = 0; t < steps; ++t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes);
    ahead.prefetch(first + t);
    vf sum = kOutput ? load(y + t * kLanes) : zero();
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf a = exp2_of(d * load(A + n * kLanes));
      if constexpr (Exp2::kForgets) {
        h[n] = forgetful_product(a, h[n]) + x * B[t * row + n];
      } else {
        h[n] = a * h[n] + x * B[t * row + n];
      }
      store(decays + t * kRow + n * kLanes, a);
      store(states + (t + 1) * kRow + n * kLanes, h[n]);
      if constexpr (kOutput) sum = sum + h[n] * C[t * row + n];
    }
    if constexpr (kOutput) store(y + t * kLanes, sum);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) store(state + n * kLanes, h[n]);
}

// Sums across lanes of 2 * kStates products of each step, kStates of one kind and as many of another, added to rows of
// 2 * kStates floats. Steps come last to first; where a row is less than a vector, as many are collected as fill one,
// so rows up to kLanes floats around a segment's may have 0 added.
template <int kStates>
struct ProductSums {
  static constexpr int kWidth = 2 * kStates;
  static constexpr bool kAtOnce = kWidth == kLanes;
  static constexpr int kSteps = kWidth < kLanes ? kLanes / kWidth : 1;
  alignas(64) float rows[kAtOnce ? 1 : kSteps * kWidth * kLanes];
  float* sums;

  MAMBASDK_ALWAYS_INLINE explicit ProductSums(float* to) : sums(to) {
    if constexpr (!kAtOnce && kSteps > 1) {
      for (int i = 0; i < kSteps * kWidth; ++i) store(rows + i * kLanes, zero());
    }
  }
  // products(n, first, second) gives the two products of state n.
  template <class Products>
  MAMBASDK_ALWAYS_INLINE void add(Index t, const Products& products) {
    if constexpr (kAtOnce) {
      const vf sum = reduce_products(products);
      float* out = sums + t * kWidth;
      store(out, load(out) + sum);
    } else {
      const Index slot = t % kSteps;
      MAMBASDK_UNROLL
      for (int n = 0; n < kStates; ++n) {
        vf first, second;
        products(n, first, second);
        store(rows + (slot * kWidth + n) * kLanes, first);
        store(rows + (slot * kWidth + kStates + n) * kLanes, second);
      }
      if (slot > 0) return;
      MAMBASDK_UNROLL
      for (int i = 0; i < kSteps * kWidth; i += kLanes) {
        float* out = sums + t * kWidth + i;
        store(out, load(out) + reduce_rows(rows + i * kLanes));
      }
    }
  }
};

// The reverse pass over the same steps. `carry`: gradient of the state that enters; `grad_A` adds up. A is scaled by
// log2 e, so `grad_dt` is still to be multiplied by ln 2. grad_dt and grad_dx are stored, or added to with `add`; the
// gradients of B and C of the block are added to `sums`, rows of 2 * kStates floats: B, then C.
template <int kStates, bool kForgets>
__attribute__((noinline)) void reverse(Index steps, Index row, const float* dt, const float* dx, const float* dy,
                                       const float* B, const float* C, const float* A, const float* decays,
                                       const float* states, float* carry, float* grad_A, float* sums, float* grad_dt,
                                       float* grad_dx, bool add, const Ahead& ahead, Index first) {
  constexpr Index kRow = kStates * kLanes;
  vf w[kStates], gA[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    w[n] = load(carry + n * kLanes);
    gA[n] = zero();
  }
  ProductSums<kStates> product_sums(sums);
  for (Index t = steps - 1; t >= 0; --t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes), g = load(dy + t * kLanes);
    ahead.prefetch(first + t);
    vf sum_dt = add ? load(grad_dt + t * kLanes) : zero(), sum_dx = add ? load(grad_dx + t * kLanes) : zero();
    const float *decay = decays + t * kRow, *before = states + t * kRow, *after = before + kRow;
    product_sums.add(t, [&](int n, vf& of_B, vf& of_C) __attribute__((always_inline)) {
      const vf dh = w[n] + g * C[t * row + n];
      of_B = dh * x;
      of_C = g * load(after + n * kLanes);
      sum_dx = sum_dx + dh * B[t * row + n];
      w[n] = dh * load(decay + n * kLanes);
      if constexpr (kForgets) {
        const vi forgotten = load(decay + n * kLanes) == zero();
        w[n] = select(forgotten, zero(), w[n]);
        const vf dz = w[n] * load(before + n * kLanes);
        sum_dt = sum_dt + select(forgotten, zero(), dz * load(A + n * kLanes));
        gA[n] = gA[n] + select(forgotten, zero(), dz * d);
      } else {
        const vf dz = w[n] * load(before + n * kLanes);
        sum_dt = sum_dt + dz * load(A + n * kLanes);
        gA[n] = gA[n] + dz * d;
      }
    });
    store(grad_dt + t * kLanes, sum_dt);
    store(grad_dx + t * kLanes, sum_dx);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    store(carry + n * kLanes, w[n]);
    store(grad_A + n * kLanes, load(grad_A + n * kLanes) + gA[n]);
  }
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

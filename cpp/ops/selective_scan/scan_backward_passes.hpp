// The two passes of the backward scan over a segment of one channel block: forward with the states kept, then in
// reverse with the gradients. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_tile.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kMostStates = 8;  // states in registers; each needs two vectors
#else
constexpr int kMostStates = 4;
#endif

// Recomputes the states of a segment. Keeps decay a_t and carried state a_t h_{t-1} of each step (`kept`: rows of
// 2 * kStates vectors), adds dy_t h_t to the C half of `sums` (rows of 2 * kStates vectors: B, then C).
template <int kStates, class Exp2, bool kFirst, bool kOutput>
__attribute__((noinline)) void sweep(Index steps, Index row, const float* dt, const float* dx, const float* dy,
                                     const float* B, const float* C, const float* A, float* state, float* kept,
                                     float* sums, float* y) {
  const Exp2 exp2_of = Exp2::make();
  vf h[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = load(state + n * kLanes);
  for (Index t = 0; t < steps; ++t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes), g = load(dy + t * kLanes);
    vf sum = kOutput ? load(y + t * kLanes) : zero();
    float* keep = kept + t * (2 * kStates * kLanes);
    float* sum_C = sums + t * (2 * kStates * kLanes) + kStates * kLanes;
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf a = exp2_of(d * load(A + n * kLanes));
      const vf carried = a * h[n];
      h[n] = carried + x * B[t * row + n];
      store(keep + (2 * n) * kLanes, a);
      store(keep + (2 * n + 1) * kLanes, carried);
      store(sum_C + n * kLanes, kFirst ? h[n] * g : load(sum_C + n * kLanes) + h[n] * g);
      if constexpr (kOutput) sum = sum + h[n] * C[t * row + n];
    }
    if constexpr (kOutput) store(y + t * kLanes, sum);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) store(state + n * kLanes, h[n]);
}

// The reverse pass over the same steps. `carry`: gradient of the state that enters; `grad_A` adds up. A is scaled by
// log2 e, so `grad_dt` is still to be multiplied by ln 2. grad_dt and grad_dx are stored, or added to with `add`.
template <int kStates, bool kFirst>
__attribute__((noinline)) void reverse(Index steps, Index row, const float* dt, const float* dx, const float* dy,
                                       const float* B, const float* C, const float* A, const float* kept, float* carry,
                                       float* grad_A, float* sums, float* grad_dt, float* grad_dx, bool add) {
  vf w[kStates], gA[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) {
    w[n] = load(carry + n * kLanes);
    gA[n] = zero();
  }
  for (Index t = steps - 1; t >= 0; --t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes), g = load(dy + t * kLanes);
    vf sum_dt = add ? load(grad_dt + t * kLanes) : zero(), sum_dx = add ? load(grad_dx + t * kLanes) : zero();
    const float* keep = kept + t * (2 * kStates * kLanes);
    float* sum_B = sums + t * (2 * kStates * kLanes);
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf dh = w[n] + g * C[t * row + n];
      const vf dz = dh * load(keep + (2 * n + 1) * kLanes);
      w[n] = dh * load(keep + (2 * n) * kLanes);
      store(sum_B + n * kLanes, kFirst ? dh * x : load(sum_B + n * kLanes) + dh * x);
      sum_dt = sum_dt + dz * load(A + n * kLanes);
      sum_dx = sum_dx + dh * B[t * row + n];
      gA[n] = gA[n] + dz * d;
    }
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

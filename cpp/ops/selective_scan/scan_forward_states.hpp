// The forward scan of one tile: one block of channels in vector lanes, states in registers. For *.isa.cpp only.
#pragma once

#include "ops/selective_scan/scan_tile.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// kStates neighbouring states over `steps` steps. dt, dx, y: rows of kLanes; B, C: rows of `row` floats. y is stored,
// or added to with `add`. The first step's rows of `ahead` are number `first`.
template <int kStates, class Exp2, bool kOutput>
__attribute__((noinline)) void scan_states(Index steps, Index row, const float* dt, const float* dx, const float* B,
                                           const float* C, const float* A, float* state, float* y, bool add,
                                           const Ahead& ahead, Index first) {
  const Exp2 exp2_of = Exp2::make();
  vf h[kStates];
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) h[n] = load(state + n * kLanes);
  for (Index t = 0; t < steps; ++t) {
    const vf d = load(dt + t * kLanes), x = load(dx + t * kLanes);
    ahead.prefetch(first + t);
    vf sum0 = kOutput && add ? load(y + t * kLanes) : zero(), sum1 = zero();
    MAMBASDK_UNROLL
    for (int n = 0; n < kStates; ++n) {
      const vf a = exp2_of(d * load(A + n * kLanes));
      if constexpr (Exp2::kForgets) {
        h[n] = forgetful_product(a, h[n]) + x * B[t * row + n];
      } else {
        h[n] = a * h[n] + x * B[t * row + n];
      }
      if constexpr (kOutput) {
        if (n % 2 == 0) {
          sum0 = sum0 + h[n] * C[t * row + n];
        } else {
          sum1 = sum1 + h[n] * C[t * row + n];
        }
      }
    }
    if constexpr (kOutput) store(y + t * kLanes, kStates > 1 ? sum0 + sum1 : sum0);
  }
  MAMBASDK_UNROLL
  for (int n = 0; n < kStates; ++n) store(state + n * kLanes, h[n]);
}

template <class Exp2, bool kOutput>
void scan_block(Index states, Index row, Index steps, const float* dt, const float* dx, const float* B, const float* C,
                const float* A, float* state, float* y, const Ahead& ahead, Index first) {
  Index n = 0;
  if (kOutput && states == 0) {
    for (Index t = 0; t < steps; ++t) store(y + t * kLanes, zero());
  }
  const auto run = [&](auto* kernel, Index width) {
    for (; n + width <= states; n += width) {
      kernel(steps, row, dt, dx, B + n, C + n, A + n * kLanes, state + n * kLanes, y, n > 0, ahead, first);
    }
  };
#if defined(__AVX512F__)
  run(&scan_states<16, Exp2, kOutput>, 16);
#endif
  run(&scan_states<8, Exp2, kOutput>, 8);
  run(&scan_states<4, Exp2, kOutput>, 4);
  run(&scan_states<2, Exp2, kOutput>, 2);
  run(&scan_states<1, Exp2, kOutput>, 1);
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

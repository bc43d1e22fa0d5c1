// A square of kLanes x kLanes floats, transposed in registers. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Swaps the off-diagonal halves of all squares of 2 * kStep.
template <int kStep>
MAMBASDK_SIMD void swap_quarters(vf (&v)[kLanes]) {
  vi low, high;  // element j: of a where below kLanes, else of b
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    low[j] = (j & kStep) != 0 ? kLanes + j - kStep : j;
    high[j] = (j & kStep) != 0 ? kLanes + j : j + kStep;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if ((i & kStep) != 0) continue;
    const vf a = v[i], b = v[i + kStep];
    v[i] = __builtin_shuffle(a, b, low);
    v[i + kStep] = __builtin_shuffle(a, b, high);
  }
}

MAMBASDK_SIMD void transpose(vf (&v)[kLanes]) {
  if constexpr (kLanes > 8) swap_quarters<8>(v);
  if constexpr (kLanes > 4) swap_quarters<4>(v);
  swap_quarters<2>(v);
  swap_quarters<1>(v);
}

}  // namespace mambasdk::MAMBASDK_ISA

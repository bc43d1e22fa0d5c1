// A square of kLanes x kLanes floats, transposed in registers. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Orders of the elements of two vectors a and b, which are quarters of four elements each (core/simd.hpp, shuffle).
// a0 b0 a1 b1 of each quarter; kFirst 2: a2 b2 a3 b3.
template <int kFirst>
struct Interleaved {
  static constexpr int at(int j) { return j / 4 * 4 + kFirst + j % 4 / 2 + (j % 2 == 1 ? kLanes : 0); }
};
// a0 a1 b0 b1 of each quarter; kFirst 2: a2 a3 b2 b3.
template <int kFirst>
struct Paired {
  static constexpr int at(int j) { return j / 4 * 4 + kFirst + j % 2 + (j % 4 >= 2 ? kLanes : 0); }
};
// Every second quarter of a, then of b, from quarter kFirst on.
template <int kFirst>
struct Quarters {
  static constexpr int kHalf = kLanes > 4 ? kLanes / 8 : 1;  // quarters of each
  static constexpr int at(int j) { return (j / 4 % kHalf * 2 + kFirst) * 4 + j % 4 + (j / 4 >= kHalf ? kLanes : 0); }
};

// Squares of four within the quarters, which instruction sets have single instructions for, then the quarters.
MAMBASDK_SIMD void transpose(vf (&v)[kLanes]) {
#pragma GCC unroll 4
  for (int i = 0; i < kLanes; i += 4) {
    const vf low = shuffle<Interleaved<0>>(v[i], v[i + 1]), high = shuffle<Interleaved<2>>(v[i], v[i + 1]);
    const vf next_low = shuffle<Interleaved<0>>(v[i + 2], v[i + 3]);
    const vf next_high = shuffle<Interleaved<2>>(v[i + 2], v[i + 3]);
    v[i] = shuffle<Paired<0>>(low, next_low);
    v[i + 1] = shuffle<Paired<2>>(low, next_low);
    v[i + 2] = shuffle<Paired<0>>(high, next_high);
    v[i + 3] = shuffle<Paired<2>>(high, next_high);
  }
  if constexpr (kLanes == 8) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const vf a = v[i], b = v[i + 4];
      v[i] = shuffle<Quarters<0>>(a, b);
      v[i + 4] = shuffle<Quarters<1>>(a, b);
    }
  }
  if constexpr (kLanes == 16) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const vf even = shuffle<Quarters<0>>(v[i], v[i + 4]), odd = shuffle<Quarters<1>>(v[i], v[i + 4]);
      const vf next_even = shuffle<Quarters<0>>(v[i + 8], v[i + 12]),
               next_odd = shuffle<Quarters<1>>(v[i + 8], v[i + 12]);
      v[i] = shuffle<Quarters<0>>(even, next_even);
      v[i + 4] = shuffle<Quarters<0>>(odd, next_odd);
      v[i + 8] = shuffle<Quarters<1>>(even, next_even);
      v[i + 12] = shuffle<Quarters<1>>(odd, next_odd);
    }
  }
}

}  // namespace mambasdk::MAMBASDK_ISA

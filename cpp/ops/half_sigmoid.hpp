// SiLU and its slope for 16-bit sequences: nothing but their range is less than that of core/simd.hpp. For *.isa.cpp
// only.
#pragma once

#include "core/simd.hpp"
#include "ops/selective_scan/scan_exp.hpp"

namespace mambasdk::MAMBASDK_ISA {

#if defined(__AVX512F__)
// decay = e^-x and value = 1 / (1 + e^-x), relative errors below 3e-7 + 2e-8 |x|: a table of 32 powers of two in
// registers with two powers of what is left, and an estimated reciprocal with a step of Newton's. |x| <= kSigmoidLimit.
inline constexpr float kSigmoidLimit = 86.0f;

struct HalfSigmoid {
  vf decay, value;
};

MAMBASDK_SIMD HalfSigmoid half_sigmoid(vf x) {
  const vf magic = set1(static_cast<float>(3 << (22 - kExpTableBits)));
  const vf t = fma(x, set1(-kLog2e), magic);
  const vf f = (magic - t) * kLn2 - x;  // at most ln2 / 64
  const __m512 table0 = _mm512_load_ps(exp_detail::kTable.bits), table1 = _mm512_load_ps(exp_detail::kTable.bits + 16);
  const vu power = (bits_of(t) << (23 - kExpTableBits)) + (vu)_mm512_permutex2var_ps(table0, (__m512i)t, table1);
  const vf decay = fma(from_bits(power), fma(f * 0.5f, f, f), from_bits(power));
  const vf sum = decay + 1.0f;
  const vf inverse = (vf)_mm512_rcp14_ps((__m512)sum);
  return {decay, inverse * (2.0f - sum * inverse)};
}
#endif

// silu(x), for sequences of T.
template <class T>
MAMBASDK_SIMD vf silu_for(vf x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2) {  // in this order NaN passes through
    const vf bounded = max(set1(-kSigmoidLimit), x);
    return bounded * half_sigmoid(min(set1(kSigmoidLimit), bounded)).value;
  }
#endif
  return silu(x);
}

// silu'(x), likewise.
template <class T>
MAMBASDK_SIMD vf silu_slope_for(vf x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2) {
    const vf bounded = min(set1(kSigmoidLimit), max(set1(-kSigmoidLimit), x));
    const HalfSigmoid s = half_sigmoid(bounded);
    return s.value * (bounded * (s.decay * s.value) + 1.0f);  // decay * value: 1 - value without cancellation
  }
#endif
  const vf s = sigmoid(x);
  return s + x * s * (1.0f - s);
}

}  // namespace mambasdk::MAMBASDK_ISA

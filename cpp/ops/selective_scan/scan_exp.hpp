// 2^z for decays, tuned for the scan's inner loop. For *.isa.cpp only.
//
// The polynomial is 1 + f q(f) with q minimax, so 2^z is exact at 0 and the error is relative to z: what counts over
// long memories is the error of log(decay). Powers of two at the finer steps come from a table held in registers (a
// permute runs beside the multipliers), which saves multiply-adds, the bottleneck of the scan.
#pragma once

#include "core/simd.hpp"

#if defined(__clang__)
#define MAMBASDK_UNROLL _Pragma("unroll")
#else
#define MAMBASDK_UNROLL _Pragma("GCC unroll 16")
#endif

namespace mambasdk::MAMBASDK_ISA {

inline constexpr float kLog2e = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;

#if defined(__AVX512F__)
inline constexpr int kExpTableBits = 5;
#elif defined(__AVX2__)
inline constexpr int kExpTableBits = 3;
#else
inline constexpr int kExpTableBits = 0;
#endif
// FastExp2 is asked for |z| up to this only.
inline constexpr float kExpFastLimit = 125.0f;
// Below minus this 2^z is 0 in double precision too.
inline constexpr float kForgottenLimit = 1075.0f;

namespace exp_detail {
constexpr double taylor(int j) {  // ln2^j / j!
  double c = 1.0;
  for (int i = 1; i <= j; ++i) c *= 0.693147180559945309417232 / i;
  return c;
}
constexpr double power_of_two(double x) {
  double sum = 0.0, term = 1.0;
  for (int k = 1; k < 30; ++k) {
    sum += term;
    term *= x * 0.693147180559945309417232 / k;
  }
  return sum;
}
struct Table {
  alignas(64) std::uint32_t bits[1 << kExpTableBits];
};
constexpr Table make_table() {  // bits of 2^(j/size), less what the shifted index adds
  Table t{};
  for (int j = 0; j < (1 << kExpTableBits); ++j) {
    const float value = static_cast<float>(power_of_two(static_cast<double>(j) / (1 << kExpTableBits)));
    t.bits[j] = __builtin_bit_cast(std::uint32_t, value) - (static_cast<std::uint32_t>(j) << (23 - kExpTableBits));
  }
  return t;
}
static constexpr Table kTable = make_table();

// Coefficients c[1..degree] of the polynomial on [-w, w]: the next two Taylor terms folded in by Chebyshev's rule.
struct Coefficients {
  float c[6];
};
constexpr Coefficients make_coefficients(int degree) {
  const double w = 0.5 / (1 << kExpTableBits), w2 = w * w, w4 = w2 * w2, w6 = w4 * w2;
  double c[8] = {};
  for (int j = 1; j < 8; ++j) c[j] = taylor(j);
  if (degree == 2) {
    c[1] += c[3] * w2 / 2;
    c[2] += c[4] * w2 * 3 / 4;
  } else if (degree == 3) {
    c[2] += c[4] * w2 * 3 / 4;
    c[1] -= c[5] * w4 / 8;
    c[3] += c[5] * w2;
  } else if (degree == 4) {
    c[3] += c[5] * w2;
    c[1] -= c[5] * w4 / 8;
    c[4] += c[6] * w2 * 5 / 4;
    c[2] -= c[6] * w4 * 5 / 16;
  } else {
    c[4] += c[6] * w2 * 5 / 4;
    c[2] -= c[6] * w4 * 5 / 16;
    c[5] += c[7] * w2 * 3 / 2;
    c[3] -= c[7] * w4 * 9 / 16;
    c[1] += c[7] * w6 / 32;
  }
  Coefficients out{};
  for (int j = 1; j < 6; ++j) out.c[j] = static_cast<float>(c[j]);
  return out;
}
}  // namespace exp_detail

// Keeps the compiler from contracting through x.
MAMBASDK_SIMD void opaque(vf& x) {
#if defined(__AVX512F__)
  asm("" : "+v"(x));
#elif defined(MAMBASDK_X86)
  asm("" : "+x"(x));
#else
  (void)x;
#endif
}

// |z| <= kExpFastLimit. Relative error of log2(result): 1e-5 (avx512), 1e-6 (avx2, degree 3), 5e-7 (baseline, degree
// 5), 2e-5 (baseline, degree 4).
template <int kDegree>
struct FastExp2 {
  static constexpr bool kForgets = false;
  static constexpr exp_detail::Coefficients k = exp_detail::make_coefficients(kDegree);
  vf magic;
#if defined(__AVX512F__)
  __m512 table0, table1;
#elif defined(__AVX2__)
  __m256 table;
#endif

  MAMBASDK_SIMD FastExp2 make() {
    FastExp2 e;
    e.magic = set1(static_cast<float>(3 << (22 - kExpTableBits)));
    opaque(e.magic);
#if defined(__AVX512F__)
    e.table0 = _mm512_load_ps(exp_detail::kTable.bits);
    e.table1 = _mm512_load_ps(exp_detail::kTable.bits + 16);
#elif defined(__AVX2__)
    e.table = _mm256_load_ps(reinterpret_cast<const float*>(exp_detail::kTable.bits));
#endif
    return e;
  }

  MAMBASDK_ALWAYS_INLINE vf operator()(vf z) const {
    opaque(z);
    const vf t = z + magic;
    const vf f = z - (t - magic);
    vu scale = bits_of(t) << (23 - kExpTableBits);
#if defined(__AVX512F__)
    scale += (vu)_mm512_permutex2var_ps(table0, (__m512i)t, table1);
#elif defined(__AVX2__)
    scale += (vu)_mm256_permutevar8x32_ps(table, (__m256i)t);
#endif
    vf q = set1(k.c[kDegree]);
    MAMBASDK_UNROLL
    for (int j = kDegree - 1; j >= 1; --j) q = q * f + k.c[j];
    if constexpr (kExpTableBits > 0) {
      const vf s = from_bits(scale);
      vf r = q * f;
      opaque(r);
      return r * s + s;
    } else {
      return from_bits(bits_of(q * f + 1.0f) + scale);
    }
  }
};

// Any z: the same bits within the range, 2^-126 below it, 2^127.9 above, NaN for NaN.
template <class Fast>
struct ClampedExp2 {
  static constexpr bool kForgets = false;
  Fast fast;

  MAMBASDK_SIMD ClampedExp2 make() { return {Fast::make()}; }
  MAMBASDK_ALWAYS_INLINE vf operator()(vf z) const { return fast(min(set1(127.9f), max(set1(-126.0f), z))); }
};

// The same, but 0 below -kForgottenLimit and infinity above it. What is multiplied by that 0 must count for nothing,
// even infinity or NaN.
template <class Fast>
struct ForgettingExp2 {
  static constexpr bool kForgets = true;
  ClampedExp2<Fast> clamped;

  MAMBASDK_SIMD ForgettingExp2 make() { return {ClampedExp2<Fast>::make()}; }
  MAMBASDK_ALWAYS_INLINE vf operator()(vf z) const {
    const vf kept = select(z < set1(-kForgottenLimit), zero(), clamped(z));
    return select(z > set1(kForgottenLimit), set1(__builtin_inff()), kept);
  }
};
// decay times x; see ForgettingExp2.
MAMBASDK_SIMD vf forgetful_product(vf decay, vf x) {
  return select(decay == zero(), zero(), decay * x);
}

// x, or 0 where 2^z is 0 in double precision too.
MAMBASDK_SIMD vf unless_forgotten(vf z, vf x) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)z, (__m512)set1(-kForgottenLimit), _CMP_NLT_UQ), (__m512)x);
#else
  return from_bits(bits_of(x) & ~(vu)(z < set1(-kForgottenLimit)));
#endif
}

#if defined(__AVX512F__)
using FloatExp2 = FastExp2<2>;
using HalfExp2 = FastExp2<2>;
#elif defined(__AVX2__)
using FloatExp2 = FastExp2<3>;
using HalfExp2 = FastExp2<3>;  // degree 2 shows in grad_A
#else
using FloatExp2 = FastExp2<5>;
using HalfExp2 = FastExp2<4>;
#endif

}  // namespace mambasdk::MAMBASDK_ISA

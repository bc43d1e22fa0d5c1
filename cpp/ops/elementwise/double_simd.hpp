// Functions whose reductions need more digits than float32 has: vectors in two halves of doubles. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

typedef double vd __attribute__((vector_size(kLanes * 4)));
typedef std::int64_t vl __attribute__((vector_size(kLanes * 4)));
typedef std::uint64_t vul __attribute__((vector_size(kLanes * 4)));
typedef float vf_half __attribute__((vector_size(kLanes * 2)));

struct Halves {
  vd low, high;
};
MAMBASDK_SIMD Halves in_double(vf x) {
  vf_half half[2];
  __builtin_memcpy(half, &x, sizeof x);
  return {__builtin_convertvector(half[0], vd), __builtin_convertvector(half[1], vd)};
}
MAMBASDK_SIMD vf in_single(Halves x) {
  const vf_half half[2] = {__builtin_convertvector(x.low, vf_half), __builtin_convertvector(x.high, vf_half)};
  vf out;
  __builtin_memcpy(&out, half, sizeof out);
  return out;
}
MAMBASDK_SIMD vd select(vl mask, vd yes, vd no) {
  return (vd)(((vl)yes & mask) | ((vl)no & ~mask));
}
// The nearest integer, of numbers below 2^51 in size.
MAMBASDK_SIMD vd nearest_integer(vd x) {
  return (x + 0x1.8p52) - 0x1.8p52;
}

// ---- sine and cosine ----

// x = (4 m + quadrant) pi / 2 + rest, |rest| <= pi / 4 and |quadrant| <= 2. The rest is right to 1e-8 up to |x| of 1e8;
// further out it is some number in its range.
struct Angle {
  vf quadrant, rest;
};
MAMBASDK_SIMD Angle angle_of(vf x) {
  const auto turns = [](vd v) __attribute__((always_inline)) { return nearest_integer(v * 0.63661977236758134308); };
  const auto quarter = [](vd n) __attribute__((always_inline)) { return n - 4.0 * nearest_integer(n * 0.25); };
  const Halves wide = in_double(x), n = {turns(wide.low), turns(wide.high)};
  const vf rest = in_single({wide.low - n.low * 1.57079632679489661923, wide.high - n.high * 1.57079632679489661923});
  return {in_single({quarter(n.low), quarter(n.high)}), min(set1(0.7854f), max(set1(-0.7854f), rest))};
}
// Minimax polynomials on [-pi/4, pi/4], relative errors below 5e-9.
MAMBASDK_SIMD vf sine_of_rest(vf r) {
  const vf z = r * r;
  vf p = z * 2.717152743e-6f + -1.983917835e-4f;
  p = p * z + 8.333328690e-3f;
  p = p * z + -1.666666663e-1f;
  return r + r * (z * p);
}
MAMBASDK_SIMD vf cosine_of_rest(vf r) {
  const vf z = r * r;
  vf p = z * 2.437267903e-5f + -1.388652915e-3f;
  p = p * z + 4.166661323e-2f;
  p = p * z + -4.999999957e-1f;
  return p * z + 1.0f;
}
// Error below 2e-7 up to |x| of 1e6; NaN of an infinity.
MAMBASDK_SIMD vf sin(vf x) {
  const Angle a = angle_of(x);
  const vf value = select(a.quadrant * a.quadrant == 1.0f, cosine_of_rest(a.rest), sine_of_rest(a.rest));
  const vi negative = (a.quadrant < 0.0f) | (a.quadrant == 2.0f);
  return from_bits(bits_of(value) ^ ((vu)negative & 0x80000000u));
}
MAMBASDK_SIMD vf cos(vf x) {
  const Angle a = angle_of(x);
  const vf value = select(a.quadrant * a.quadrant == 1.0f, sine_of_rest(a.rest), cosine_of_rest(a.rest));
  const vi negative = (a.quadrant > 0.0f) | (a.quadrant == -2.0f);
  return from_bits(bits_of(value) ^ ((vu)negative & 0x80000000u));
}

// ---- powers ----

// log2(x) of a positive finite x, error below 1e-12.
MAMBASDK_SIMD vd log2_of(vd x) {
  // x = 2^e m, m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh((m - 1) / (m + 1)). Floats are normal as doubles.
  const vl shifted = (vl)x - 0x3fe6a09e667f3bcd;
  // The exponent without a conversion of 64-bit integers: as the last bits of a large double.
  const vl e = ((vl)((vul)shifted >> 52) + 0x400) & 0x7ff;
  const vd exponent = (vd)(e | 0x4330000000000000) - (0x1p52 + 1024.0);
  const vd m = (vd)((shifted & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
  const vd s = (m - 1.0) / (m + 1.0), z = s * s;
  vd p = z * (1.0 / 17) + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  return exponent + (s + s * (z * p)) * 2.88539008177792681472;
}
// 2^x for |x| below 1000, relative error below 1e-12.
MAMBASDK_SIMD vd exp2_of(vd x) {
  const vd shifted = x + 0x1.8p52, f = x - (shifted - 0x1.8p52);
  // Minimax in relative error on [-1/2, 1/2].
  vd p = f * 1.317590605e-6 + 1.530973769e-5;
  p = p * f + 1.540385151e-4;
  p = p * f + 1.333345206e-3;
  p = p * f + 9.618128543e-3;
  p = p * f + 5.550410939e-2;
  p = p * f + 2.402265070e-1;
  p = p * f + 6.931471805e-1;
  p = p * f + 1.0;
  return (vd)((vl)p + ((vl)shifted << 52));
}
MAMBASDK_SIMD vd power_of(vd size, vd y) {
  vd log = log2_of(size);
  log = select(size == 0.0, log - __builtin_inf(), select(size == __builtin_inf(), log + __builtin_inf(), log));
  const vd z = y * log;
  return exp2_of(select(z > 200.0, vd{} + 200.0, select(z < -200.0, vd{} - 200.0, z)));
}
// x^y as std::pow has it, to float32's accuracy.
MAMBASDK_SIMD vf power(vf x, vf y) {
  const vf size = from_bits(bits_of(x) & 0x7fffffffu), one = set1(1.0f);
  const Halves base = in_double(size), exponent = in_double(y);
  const vf magnitude = in_single({power_of(base.low, exponent.low), power_of(base.high, exponent.high)});
  vf value = select(size == 1.0f, one, magnitude);  // also with an infinite exponent
  const vi whole = floor(y) == y, odd = whole & (floor(y * 0.5f) * 2.0f != y);
  value = from_bits(bits_of(value) ^ (bits_of(x) & (vu)odd & 0x80000000u));
  value = select((x < 0.0f) & (size < __builtin_inff()) & ~whole, set1(__builtin_nanf("")), value);
  value = select(x == x, select(y == y, value, y), x);
  return select((y == 0.0f) | (x == 1.0f), one, value);
}

// ---- remainders ----

// x - y trunc(x / y) where the quotient is below 2^28: its product with y then has 52 bits.
MAMBASDK_SIMD vd remainder_of(vd x, vd y) {
  const vd rest = x - nearest_integer(x / y) * y, size = select(y < 0.0, -y, y);
  const vd up = select(x > 0.0, select(rest < 0.0, size, vd{}), vd{});
  return rest + select(x < 0.0, select(rest > 0.0, -size, vd{}), up);
}
// x - y trunc(x / y) without an error, with the sign of x.
MAMBASDK_SIMD vf exact_remainder(vf x, vf y) {
  const vf quotient = x / y, infinity = set1(__builtin_inff());
  const vi plain = (quotient < 0x1p28f) & (quotient > -0x1p28f) & (y < infinity) & (y > -infinity);
  if (__builtin_expect(reduce_add(select(plain, zero(), set1(1.0f))) != 0.0f, 0)) {
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_fmodf(x[i], y[i]);
    return x;
  }
  const Halves a = in_double(x), b = in_double(y);
  const vf rest = in_single({remainder_of(a.low, b.low), remainder_of(a.high, b.high)});
  return from_bits((bits_of(rest) & 0x7fffffffu) | (bits_of(x) & 0x80000000u));
}

}  // namespace mambasdk::MAMBASDK_ISA

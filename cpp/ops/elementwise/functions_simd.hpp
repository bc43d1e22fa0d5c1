// The functions of elementwise operations (table.hpp) in vectors. For *.isa.cpp only.
#pragma once

#include "ops/elementwise/double_simd.hpp"
#include "ops/elementwise/table.hpp"

#define MAMBASDK_FORMULA MAMBASDK_SIMD

namespace mambasdk::MAMBASDK_ISA {

using Number = vf;
using Parameter = float;
using Condition = vi;

MAMBASDK_SIMD float number(double constant) {
  return static_cast<float>(constant);
}
MAMBASDK_SIMD vf one() {
  return set1(1.0f);
}
MAMBASDK_SIMD vf everywhere(float parameter) {
  return set1(parameter);
}
MAMBASDK_SIMD vf absolute(vf x) {
  return from_bits(bits_of(x) & 0x7fffffffu);
}

// Of any x; log() is that of finite positive ones.
MAMBASDK_SIMD vf natural_log(vf x) {
  const float inf = __builtin_inff();
  const vi small = x < 0x1p-126f;  // subnormal, or outside
  const vf value = log(select(small, x * 0x1p24f, x)) - select(small, set1(16.635532333438686f), zero());
  const vf outside = select(x == zero(), set1(-inf), set1(__builtin_nanf("")));
  return select(x > zero(), select(x == inf, x, value), outside);
}
MAMBASDK_SIMD vf natural_log1p(vf x) {
  const vf u = 1.0f + x, d = u - 1.0f;  // what rounding took from x is put back
  const vf value = natural_log(u) * (x / select(d == zero(), one(), d));
  return select(d == zero(), x, select(x == __builtin_inff(), x, value));
}

// Minimax polynomial below 1/2, where e^x - 1 cancels.
MAMBASDK_SIMD vf exp_minus_1(vf x) {
  vf p = x * 1.999285054e-4f + 1.399740109e-3f;
  p = p * x + 8.333073198e-3f;
  p = p * x + 4.166531738e-2f;
  p = p * x + 1.666666801e-1f;
  p = p * x + 5.000000415e-1f;
  return select(absolute(x) < 0.5f, x + x * (x * p), exp(x) - 1.0f);
}

// Relative error below 4e-7: an odd polynomial (minimax in relative error, 5e-9) below 5/8, where 1 - 2 / (e^2x + 1)
// cancels.
MAMBASDK_SIMD vf tanh(vf x) {
  const vf size = from_bits(bits_of(x) & 0x7fffffffu);
  const vf z = x * x;
  vf p = z * -5.70498686e-3f + 2.06390861e-2f;
  p = p * z + -5.37397154e-2f;
  p = p * z + 1.33314416e-1f;
  p = p * z + -3.33332807e-1f;
  const vf large = 1.0f - 2.0f / (exp(size + size) + 1.0f);
  const vf signed_large = from_bits(bits_of(large) | (bits_of(x) & 0x80000000u));
  return select(size < 0.625f, x + x * (z * p), signed_large);
}

MAMBASDK_SIMD vf softplus_slope(vf x) {
  return sigmoid(x);
}

// erfc(t) for t >= 0, relative error below 3e-7: exp(t^2) erfc(t) = q p(q) where q = 1 / (1 + 0.4 t) and p is the
// minimax polynomial of degree 8 in relative error (1.3e-7). Half of it.
MAMBASDK_SIMD vf half_erfc(vf t) {
  const vf q = 1.0f / (1.0f + 0.4f * t);
  vf p = q * 5.0288692e-2f + -1.8301059e-1f;
  p = p * q + 1.6926946e-1f;
  p = p * q + -5.7716547e-3f;
  p = p * q + 1.4151452e-1f;
  p = p * q + 1.6851819e-1f;
  p = p * q + 2.0784631e-1f;
  p = p * q + 2.2566935e-1f;
  p = p * q + 2.2567587e-1f;
  return 0.5f * exp(-(t * t)) * (p * q);
}
// Phi(x), error below 3e-7. With t = |x| / sqrt(2): Phi(-|x|) = erfc(t) / 2.
MAMBASDK_SIMD vf normal_distribution(vf x) {
  const vf tail = half_erfc(absolute(x) * 0.70710678118654752f);
  return select(x < zero(), tail, 1.0f - tail);
}
// Minimax polynomial (1.4e-9) below 3/4, where 1 - erfc(x) cancels.
MAMBASDK_SIMD vf error_function(vf x) {
  const vf z = x * x, size = absolute(x);
  vf p = z * -6.749512552e-4f + 5.114345451e-3f;
  p = p * z + -2.683462452e-2f;
  p = p * z + 1.128337657e-1f;
  p = p * z + -3.761261876e-1f;
  p = p * z + 1.128379165f;
  const vf large = 1.0f - 2.0f * half_erfc(size);
  return select(size < 0.75f, x * p, from_bits(bits_of(large) | (bits_of(x) & 0x80000000u)));
}
MAMBASDK_SIMD vf gelu(vf x) {
  return x * normal_distribution(x);
}

#include "ops/elementwise/formulas.hpp"

}  // namespace mambasdk::MAMBASDK_ISA

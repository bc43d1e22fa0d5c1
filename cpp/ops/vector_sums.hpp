// Sums across lanes, many vectors at a time. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// out[i] = sum of the lanes of vector i, for kLanes vectors: a transposing tree, one shuffle pair per add. products(n,
// a, b) gives vectors n and n + kLanes / 2; it is called in the order in which fewest sums wait in registers.
#if defined(__AVX512F__)
template <class Products>
MAMBASDK_SIMD vf reduce_products(const Products& products) {
  const auto halves = [](vf a, vf b) __attribute__((always_inline)) {
    const __m512 x = (__m512)a, y = (__m512)b;
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
  };
  const auto four = [&](int n) __attribute__((always_inline)) {  // quarters: of n, n + 4, n + 8, n + 12
    vf a, b, c, d;
    products(n, a, b);
    products(n + 4, c, d);
    const __m512 x = halves(a, c), y = halves(b, d);
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
  };
  const auto interleave = [](__m512 x, __m512 y) __attribute__((always_inline)) {
    return _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
  };
  const __m512 zero = four(0), two = four(2), even = interleave(zero, two);
  const __m512 one = four(1), three = four(3), odd = interleave(one, three);
  return (vf)interleave(even, odd);
}
#elif defined(__AVX2__)
template <class Products>
MAMBASDK_SIMD vf reduce_products(const Products& products) {
  const auto two_of = [&](int n) __attribute__((always_inline)) {  // halves: of n, n + 4
    vf a, b;
    products(n, a, b);
    const __m256 x = (__m256)a, y = (__m256)b;
    return _mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
  };
  const auto interleave = [](__m256 x, __m256 y) __attribute__((always_inline)) {
    return _mm256_add_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
  };
  const __m256 zero = two_of(0), two = two_of(2), even = interleave(zero, two);
  const __m256 one = two_of(1), three = two_of(3), odd = interleave(one, three);
  return (vf)interleave(even, odd);
}
#else
template <class Products>
MAMBASDK_SIMD vf reduce_products(const Products& products) {
  vf sums;
  for (int n = 0; n < kLanes / 2; ++n) {
    vf a, b;
    products(n, a, b);
    sums[n] = reduce_add(a);
    sums[n + kLanes / 2] = reduce_add(b);
  }
  return sums;
}
#endif

MAMBASDK_SIMD vf reduce_vectors(const vf (&in)[kLanes]) {
  return reduce_products([&](int n, vf& a, vf& b) __attribute__((always_inline)) {
    a = in[n];
    b = in[n + kLanes / 2];
  });
}

// The same for kLanes rows of kLanes floats.
MAMBASDK_SIMD vf reduce_rows(const float* rows) {
  vf v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) v[i] = load(rows + i * kLanes);
  return reduce_vectors(v);
}

}  // namespace mambasdk::MAMBASDK_ISA

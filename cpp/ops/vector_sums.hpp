// Sums of many vectors: across lanes, and lane by lane. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

#if defined(__AVX512F__) || defined(__AVX2__)
// Sums of the lanes of a few vectors on their way to one: `part_sums` of vectors n, n + 4, … has a part of the lanes
// for each, `merge` joins two of these.
#if defined(__AVX512F__)
template <class Products>
MAMBASDK_SIMD vf part_sums(const Products& products, int n) {
  const auto halves = [](vf a, vf b) __attribute__((always_inline)) {
    const __m512 x = (__m512)a, y = (__m512)b;
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
  };
  vf a, b, c, d;
  products(n, a, b);
  products(n + 4, c, d);
  const __m512 x = halves(a, c), y = halves(b, d);
  return (vf)_mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}
MAMBASDK_SIMD vf merge(vf a, vf b) {
  const __m512 x = (__m512)a, y = (__m512)b;
  return (vf)_mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
}
#else
template <class Products>
MAMBASDK_SIMD vf part_sums(const Products& products, int n) {
  vf a, b;
  products(n, a, b);
  const __m256 x = (__m256)a, y = (__m256)b;
  return (vf)_mm256_add_ps(_mm256_permute2f128_ps(x, y, 0x20), _mm256_permute2f128_ps(x, y, 0x31));
}
MAMBASDK_SIMD vf merge(vf a, vf b) {
  const __m256 x = (__m256)a, y = (__m256)b;
  return (vf)_mm256_add_ps(_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y));
}
#endif
#endif

// out[i] = sum of the lanes of vector i, for kLanes vectors: a transposing tree, one shuffle pair per add. products(n,
// a, b) gives vectors n and n + kLanes / 2; it is called in the order in which fewest sums wait in registers.
template <class Products>
MAMBASDK_SIMD vf reduce_products(const Products& products) {
#if defined(__AVX512F__) || defined(__AVX2__)
  const vf zero = part_sums(products, 0), two = part_sums(products, 2), even = merge(zero, two);
  const vf one = part_sums(products, 1), three = part_sums(products, 3), odd = merge(one, three);
  return merge(even, odd);
#else
  vf sums{};
  for (int n = 0; n < kLanes / 2; ++n) {
    vf a, b;
    products(n, a, b);
    sums[n] = reduce_add(a);
    sums[n + kLanes / 2] = reduce_add(b);
  }
  return sums;
#endif
}

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

// Lane by lane over `count` vectors `stride` floats apart, in their order, two levels deep to keep float32's error
// small.
template <std::int64_t kGroup>
MAMBASDK_SIMD vf sum_parts(const float* parts, std::int64_t count, std::int64_t stride) {
  vf total = zero();
  for (std::int64_t g = 0; g < count; g += kGroup) {
    vf part = zero();
    const std::int64_t end = g + kGroup < count ? g + kGroup : count;
    for (std::int64_t i = g; i < end; ++i) part = part + load(parts + i * stride);
    total = total + part;
  }
  return total;
}

}  // namespace mambasdk::MAMBASDK_ISA

// Sums across lanes, many vectors at a time. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// out[i] = sum of the lanes of v[i], for kLanes vectors: a transposing tree, one shuffle pair per add.
#if defined(__AVX512F__)
MAMBASDK_SIMD vf reduce_vectors(const vf (&in)[16]) {
  __m512 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // quarters: two of row r, two of row r + 4
    const int r = i < 4 ? i : i + 4;
    const __m512 a = (__m512)in[r], b = (__m512)in[r + 4];
    v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i + 4], 0x88), _mm512_shuffle_f32x4(v[i], v[i + 4], 0xdd));
  // The quarters of v[i] belong to rows i, i + 4, i + 8, i + 12.
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    v[i] = _mm512_add_ps(_mm512_unpacklo_ps(v[i], v[i + 2]), _mm512_unpackhi_ps(v[i], v[i + 2]));
  const __m512 sum = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  return (vf)sum;
}
#elif defined(__AVX2__)
MAMBASDK_SIMD vf reduce_vectors(const vf (&in)[8]) {
  __m256 v[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256 a = (__m256)in[i], b = (__m256)in[i + 4];
    v[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    v[i] = _mm256_add_ps(_mm256_unpacklo_ps(v[i], v[i + 2]), _mm256_unpackhi_ps(v[i], v[i + 2]));
  return (vf)_mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
}
#else
MAMBASDK_SIMD vf reduce_vectors(const vf (&in)[kLanes]) {
  vf sums;
  for (int i = 0; i < kLanes; ++i) sums[i] = reduce_add(in[i]);
  return sums;
}
#endif

// The same for kLanes rows of kLanes floats.
MAMBASDK_SIMD vf reduce_rows(const float* rows) {
  vf v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) v[i] = load(rows + i * kLanes);
  return reduce_vectors(v);
}

}  // namespace mambasdk::MAMBASDK_ISA

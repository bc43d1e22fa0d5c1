// Sums across lanes, many vectors at a time. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// out[i] = sum of the lanes of rows[i], for kLanes rows of kLanes floats: a transposing tree, one shuffle pair per add.
MAMBASDK_SIMD vf reduce_rows(const float* rows) {
#if defined(__AVX512F__)
  __m512 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // quarters: two of row r, two of row r + 4
    const int r = i < 4 ? i : i + 4;
    const __m512 a = _mm512_loadu_ps(rows + r * 16), b = _mm512_loadu_ps(rows + (r + 4) * 16);
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
#elif defined(__AVX2__)
  __m256 v[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_ps(rows + i * 8);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    v[i] = _mm256_add_ps(_mm256_permute2f128_ps(v[i], v[i + 4], 0x20), _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    v[i] = _mm256_add_ps(_mm256_unpacklo_ps(v[i], v[i + 2]), _mm256_unpackhi_ps(v[i], v[i + 2]));
  return (vf)_mm256_add_ps(_mm256_unpacklo_ps(v[0], v[1]), _mm256_unpackhi_ps(v[0], v[1]));
#else
  vf sums;
  for (int i = 0; i < kLanes; ++i) sums[i] = reduce_add(load(rows + i * kLanes));
  return sums;
#endif
}

}  // namespace mambasdk::MAMBASDK_ISA

// Register-tile matrix products: C (MR x NV vectors) += A (MR,k) * B (k, NV vectors). For *.isa.cpp only.
//
// Rows of B are whole vectors, `ldb` elements apart; A is read element by element and broadcast. Callers pad with
// zeros, so there are no tails here.
#pragma once

#include "core/simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

// Rows and vectors of the register tile: enough independent sums to hide the FMA's latency, and all of them in
// registers.
#if defined(__AVX512F__)
inline constexpr int kTileRows = 8;
inline constexpr int kTileVectors = 2;
#elif defined(__AVX2__)
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 2;
#else
inline constexpr int kTileRows = 4;
inline constexpr int kTileVectors = 2;
#endif
inline constexpr int kTileColumns = kTileVectors * kLanes;

enum class Layout { row_major, column_major };  // A[r,i] is a[r*lda + i], or a[i*lda + r]

template <int MR, int NV>
MAMBASDK_SIMD void clear_tile(vf (&acc)[MR][NV]) {
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] = zero();
}

template <int MR, int NV>
MAMBASDK_SIMD void load_tile(vf (&acc)[MR][NV], const float* c, std::int64_t ldc) {
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] = load(c + r * ldc + v * kLanes);
}

template <int MR, int NV>
MAMBASDK_SIMD void store_tile(const vf (&acc)[MR][NV], float* c, std::int64_t ldc) {
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(c + r * ldc + v * kLanes, acc[r][v]);
}

template <int MR, int NV, Layout A = Layout::row_major>
MAMBASDK_SIMD void multiply_tile(vf (&acc)[MR][NV], const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                                 std::int64_t k) {
  for (std::int64_t i = 0; i < k; ++i) {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = load(b + i * ldb + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const vf x = set1(A == Layout::row_major ? a[r * lda + i] : a[i * lda + r]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[r][v] += x * row[v];
    }
  }
}

}  // namespace mambasdk::MAMBASDK_ISA

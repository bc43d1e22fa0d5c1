// Matrix products of bfloat16 in the tile registers of AMX: float32 sums of pairs that are neighbours along the summed
// dim. For *.isa.cpp only.
//
// The left factor has rows of 4-byte cells, a cell being one pair; the right factor has one row of memory per pair, a
// cell per column, just as `vdpbf16ps` wants them. Rows and columns come in sixteens, cells along the summed dim in
// eights. Subnormal values count as zero. A thread computes inside the life of a TileSession.
#pragma once

#include "core/simd.hpp"

#if defined(MAMBASDK_AMX)

namespace mambasdk::MAMBASDK_ISA {

inline constexpr std::int64_t kTileSide = 16;  // rows of a tile, and its cells in a row
inline constexpr std::int64_t kCellBytes = 4;

// Tiles 0 to 3: sums. 4: left, 5: right. 6, 7: the same with half of the summed dim, or whole as well.
class TileSession {
 public:
  MAMBASDK_ALWAYS_INLINE explicit TileSession(bool halves = true) {
    struct alignas(64) {
      std::uint8_t palette, start_row, reserved[14];
      std::uint16_t row_bytes[16];
      std::uint8_t rows[16];
    } config = {};
    static_assert(sizeof config == 64);
    config.palette = 1;
    for (int t = 0; t < 8; ++t) {
      config.row_bytes[t] = halves && t == 6 ? 32 : 64;
      config.rows[t] = halves && t == 7 ? 8 : 16;
    }
    asm volatile("" ::"r"(&config) : "memory");  // the intrinsic of gcc 12 declares 8 of the 64 bytes as read
    _tile_loadconfig(&config);
  }
  MAMBASDK_ALWAYS_INLINE ~TileSession() { _tile_release(); }
  TileSession(const TileSession&) = delete;
  TileSession& operator=(const TileSession&) = delete;
};

// c (16 kRows, 16 kColumns) += a b over k cells; 1 or 2 of each. Two by two keep four sums in flight.
template <int kRows, int kColumns>
MAMBASDK_SIMD void multiply_tiles(float* c, std::int64_t ldc, const float* a, std::int64_t lda, const float* b,
                                  std::int64_t ldb, std::int64_t k) {
  static_assert(kRows >= 1 && kRows <= 2 && kColumns >= 1 && kColumns <= 2);
  const std::int64_t c_bytes = ldc * kCellBytes, a_bytes = lda * kCellBytes, b_bytes = ldb * kCellBytes;
  const float *low_a = a + kTileSide * lda, *right_b = b + kTileSide;
  float *c01 = c + kTileSide, *c10 = c + kTileSide * ldc, *c11 = c10 + kTileSide;
  asm volatile("" ::: "memory");  // gcc 12 does not know that tile loads read memory
  _tile_loadd(0, c, c_bytes);
  if constexpr (kColumns == 2) _tile_loadd(1, c01, c_bytes);
  if constexpr (kRows == 2) _tile_loadd(2, c10, c_bytes);
  if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, c11, c_bytes);
  std::int64_t i = 0;
  for (; i + kTileSide <= k; i += kTileSide) {
    _tile_loadd(4, a + i, a_bytes);
    _tile_loadd(5, b + i * ldb, b_bytes);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kColumns == 2) {
      _tile_loadd(5, right_b + i * ldb, b_bytes);
      _tile_dpbf16ps(1, 4, 5);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(4, low_a + i, a_bytes);
      if constexpr (kColumns == 2) {
        _tile_dpbf16ps(3, 4, 5);
        _tile_loadd(5, b + i * ldb, b_bytes);
      }
      _tile_dpbf16ps(2, 4, 5);
    }
  }
  if (i < k) {
    _tile_loadd(6, a + i, a_bytes);
    _tile_loadd(7, b + i * ldb, b_bytes);
    _tile_dpbf16ps(0, 6, 7);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, right_b + i * ldb, b_bytes);
      _tile_dpbf16ps(1, 6, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(6, low_a + i, a_bytes);
      if constexpr (kColumns == 2) {
        _tile_dpbf16ps(3, 6, 7);
        _tile_loadd(7, b + i * ldb, b_bytes);
      }
      _tile_dpbf16ps(2, 6, 7);
    }
  }
  _tile_stored(0, c, c_bytes);
  if constexpr (kColumns == 2) _tile_stored(1, c01, c_bytes);
  if constexpr (kRows == 2) _tile_stored(2, c10, c_bytes);
  if constexpr (kRows == 2 && kColumns == 2) _tile_stored(3, c11, c_bytes);
}

// c (rows,columns) += a b: both multiples of kTileSide.
MAMBASDK_SIMD void multiply_matrix(float* c, std::int64_t ldc, const float* a, std::int64_t lda, const float* b,
                                   std::int64_t ldb, std::int64_t rows, std::int64_t columns, std::int64_t k) {
  constexpr std::int64_t kPair = 2 * kTileSide;
  for (std::int64_t j = 0; j < columns; j += kPair) {
    const bool wide = j + kPair <= columns;
    std::int64_t r = 0;
    for (; r + kPair <= rows; r += kPair) {
      if (wide)
        multiply_tiles<2, 2>(c + r * ldc + j, ldc, a + r * lda, lda, b + j, ldb, k);
      else
        multiply_tiles<2, 1>(c + r * ldc + j, ldc, a + r * lda, lda, b + j, ldb, k);
    }
    if (r == rows) continue;
    if (wide)
      multiply_tiles<1, 2>(c + r * ldc + j, ldc, a + r * lda, lda, b + j, ldb, k);
    else
      multiply_tiles<1, 1>(c + r * ldc + j, ldc, a + r * lda, lda, b + j, ldb, k);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA

#endif

// Operands and tiles of the matrix products of ssd: layouts, packing, and the product itself. For *.isa.cpp only.
//
// Products run in float32 or, where the instruction set has it, on pairs of bfloat16 with float32 sums. Both see their
// operands as matrices of 4-byte cells: a cell is one float, or two bfloat16 that are neighbours along the summed dim.
//   rows operand    (rows, k cells): k along memory; the left factor, broadcast cell by cell
//   columns operand (k cells, columns): columns along memory; the right factor, loaded as vectors
// A columns operand of M^T is the transposed rows operand of M, cell by cell. All dims are padded with zeros to
// whole vectors of cells.
#pragma once

#include "kernels/tile.hpp"
#include "kernels/tile_amx.hpp"
#include "kernels/transpose.hpp"

namespace mambasdk::MAMBASDK_ISA {

MAMBASDK_SIMD std::int64_t round_up(std::int64_t n, std::int64_t to) {
  return (n + to - 1) / to * to;
}
MAMBASDK_SIMD std::int64_t min64(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD std::int64_t max64(std::int64_t a, std::int64_t b) {
  return a > b ? a : b;
}

// What a thread holds while it computes products.
struct NoSession {
  MAMBASDK_ALWAYS_INLINE NoSession() {}
};

// The register tile of the products. Stores of vectors take the multiply-adds' time (1.6 cycles each on Zen 4), and so
// do operands that come from the second-level cache: four vectors make a tile as wide as the usual head or chunk, so
// that rows operands pass once.
#if defined(MAMBASDK_AMX)  // sums wait in memory for what is done with them
inline constexpr int kProductRows = 16;
inline constexpr int kProductVectors = 2;
#elif defined(__AVX512F__)
inline constexpr int kProductRows = 4;
inline constexpr int kProductVectors = 4;
#else
inline constexpr int kProductRows = kTileRows;
inline constexpr int kProductVectors = kTileVectors;
#endif
inline constexpr int kProductColumns = kProductVectors * kLanes;
inline constexpr int kTriangleColumns = 2 * kLanes;  // of products of which a triangle is wanted

struct FloatCells {
  using Session = NoSession;
  static constexpr int kPerCell = 1;
  MAMBASDK_SIMD void multiply_add(vf& acc, float a, vf b) { acc += set1(a) * b; }
  // Elements [column, column+kLanes) of one row of a rows operand.
  MAMBASDK_SIMD void put_row(float* row, std::int64_t column, vf x) { store(row + column, x); }
  MAMBASDK_SIMD vf get_row(const float* row, std::int64_t column) { return load(row + column); }
  // Two such vectors, from `column` on.
  MAMBASDK_SIMD void put_row_pair(float* row, std::int64_t column, vf first, vf second) {
    store(row + column, first);
    store(row + column + kLanes, second);
  }
  // sum += the products of kLanes cells.
  MAMBASDK_SIMD void dot(vf& sum, const float* a, const float* b) { sum += load(a) * load(b); }
  // Rows k and k+1 (k even) of a columns operand with row length `ld`.
  MAMBASDK_SIMD void put_columns(float* cells, std::int64_t ld, std::int64_t k, vf even, vf odd) {
    store(cells + k * ld, even);
    store(cells + (k + 1) * ld, odd);
  }
  // Columns operand of a rows operand (rows,columns), and of the same with row r times scale[r]. A columns operand of
  // floats is the rows operand: `plain` is `src` already.
  MAMBASDK_SIMD void columns_and_scaled(float*, float* scaled, std::int64_t ldd, const float* src, std::int64_t lds,
                                        std::int64_t rows, std::int64_t columns, const float* scale) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t j = 0; j < columns; j += kLanes)
        store(scaled + r * ldd + j, set1(scale[r]) * load(src + r * lds + j));
  }
};

#if defined(__AVX512BF16__)
struct Bf16Cells {
#if defined(MAMBASDK_AMX)
  using Session = TileSession;
#else
  using Session = NoSession;
#endif
  static constexpr int kPerCell = 2;
  MAMBASDK_SIMD void multiply_add(vf& acc, float a, vf b) {
    acc = (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)set1(a), (__m512bh)b);
  }
  MAMBASDK_SIMD void put_row(float* row, std::int64_t column, vf x) {
    *reinterpret_cast<vh_unaligned*>(reinterpret_cast<bf16*>(row) + column) =
        (vh_unaligned)_mm512_cvtneps_pbh((__m512)x);
  }
  MAMBASDK_SIMD vf get_row(const float* row, std::int64_t column) {
    return load(reinterpret_cast<const bf16*>(row) + column);
  }
  MAMBASDK_SIMD void put_row_pair(float* row, std::int64_t column, vf first, vf second) {
    _mm512_storeu_si512(row + column / 2, narrow_pair(first, second));
  }
  MAMBASDK_SIMD void dot(vf& sum, const float* a, const float* b) {
    sum = (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)load(a), (__m512bh)load(b));
  }
  MAMBASDK_SIMD void put_columns(float* cells, std::int64_t ld, std::int64_t k, vf even, vf odd) {
    const v32h halves = (v32h)narrow_pair(even, odd);
    store(cells + k / 2 * ld, (vf)shuffle<Interleaved<16, 0>>(halves, halves));
  }
  // Columns operand of a rows operand (rows,cells): neighbours along the rows become neighbours along the summed dim.
  MAMBASDK_SIMD void columns_of_rows(float* dst, std::int64_t ldd, const float* src, std::int64_t lds,
                                     std::int64_t rows, std::int64_t row_cells) {
    for (std::int64_t r = 0; r < rows; r += 2) {
      for (std::int64_t j = 0; j < row_cells; j += kLanes) {
        const v32h even = (v32h)load(src + r * lds + j), odd = (v32h)load(src + (r + 1) * lds + j);
        store(dst + r / 2 * ldd + 2 * j, (vf)shuffle<Interleaved<32, 0>>(even, odd));
        store(dst + r / 2 * ldd + 2 * j + kLanes, (vf)shuffle<Interleaved<32, 16>>(even, odd));
      }
    }
  }
  MAMBASDK_SIMD void columns_and_scaled(float* plain, float* scaled, std::int64_t ldd, const float* src,
                                        std::int64_t lds, std::int64_t rows, std::int64_t columns, const float* scale) {
    for (std::int64_t r = 0; r < rows; r += 2) {
      const vf s0 = set1(scale[r]), s1 = set1(scale[r + 1]);
      for (std::int64_t j = 0; j < columns; j += 2 * kLanes) {
        const v32h even = (v32h)load(src + r * lds + j / 2), odd = (v32h)load(src + (r + 1) * lds + j / 2);
        put_both(plain + r / 2 * ldd + j, scaled + r / 2 * ldd + j, (vu)shuffle<Interleaved<32, 0>>(even, odd), s0, s1);
        put_both(plain + r / 2 * ldd + j + kLanes, scaled + r / 2 * ldd + j + kLanes,
                 (vu)shuffle<Interleaved<32, 16>>(even, odd), s0, s1);
      }
    }
  }

 private:
  typedef std::uint16_t v32h __attribute__((vector_size(64)));
  // Elements from kFrom on and those kApart further, by turns.
  template <int kApart, int kFrom>
  struct Interleaved {
    static constexpr int at(int i) { return i / 2 + i % 2 * kApart + kFrom; }
  };
  // A vector of cells, and the same with its even elements times s0 and its odd ones times s1.
  MAMBASDK_SIMD void put_both(float* plain, float* scaled, vu cells, vf s0, vf s1) {
    store(plain, (vf)cells);
    put_columns(scaled, 0, 0, (vf)(cells << 16) * s0, (vf)(cells & 0xffff0000u) * s1);
  }
};
#endif

template <class Cells>
MAMBASDK_SIMD std::int64_t cells(std::int64_t n) {
  return n / Cells::kPerCell;
}

// Padding of a dim: whole vectors of cells, and whole tiles of rows.
template <class Cells>
MAMBASDK_SIMD std::int64_t padded(std::int64_t n) {
  static_assert(kLanes % kProductRows == 0);
  return round_up(n, kLanes * Cells::kPerCell);
}

// ---- products ----

#if defined(MAMBASDK_AMX)
template <class Cells, int NV>
MAMBASDK_SIMD void multiply(vf (&acc)[kProductRows][NV], const float* a, std::int64_t lda, const float* b,
                            std::int64_t ldb, std::int64_t k) {
  static_assert(kProductRows == kTileSide && kLanes == kTileSide);
  constexpr int kPairs = NV / 2 * 2;
#pragma GCC unroll 4
  for (int v = 0; v < kPairs; v += 2)
    multiply_tiles<1, 2>(reinterpret_cast<float*>(acc[0] + v), NV * kLanes, a, lda, b + v * kLanes, ldb, k);
  if constexpr (kPairs < NV)
    multiply_tiles<1, 1>(reinterpret_cast<float*>(acc[0] + kPairs), NV * kLanes, a, lda, b + kPairs * kLanes, ldb, k);
}
#else
template <class Cells, int NV>
MAMBASDK_SIMD void multiply(vf (&acc)[kProductRows][NV], const float* a, std::int64_t lda, const float* b,
                            std::int64_t ldb, std::int64_t k) {
  // Two pointers that the compiler may not look through: it would keep one for each row, more than there are registers.
  const float *low = a, *high = a + kProductRows / 2 * lda;
  for (std::int64_t i = 0; i < k; ++i) {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = in_register(load(b + v * kLanes));
#pragma GCC unroll 16
    for (int r = 0; r < kProductRows; ++r) {
      const float x = r < kProductRows / 2 ? low[r * lda] : high[(r - kProductRows / 2) * lda];
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) Cells::multiply_add(acc[r][v], x, row[v]);
    }
    b += ldb;
    ++low;
    ++high;
#if defined(__GNUC__)
    asm("" : "+r"(low), "+r"(high));
#endif
  }
}
#endif

// acc += factor * c.
template <int NV>
MAMBASDK_SIMD void add_tile(vf (&acc)[kProductRows][NV], vf factor, const float* c, std::int64_t ldc) {
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] += factor * load(c + r * ldc + v * kLanes);
}
// Row r times scale[r].
template <int NV>
MAMBASDK_SIMD void scale_tile_rows(vf (&acc)[kProductRows][NV], const float* scale) {
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] *= set1(scale[r]);
}

// Rows [k, k + kProductRows) of a columns operand.
template <class Cells, int NV>
MAMBASDK_SIMD void put_tile(float* columns, std::int64_t ld, std::int64_t k, const vf (&acc)[kProductRows][NV]) {
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; r += 2)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) Cells::put_columns(columns + v * kLanes, ld, k + r, acc[r][v], acc[r + 1][v]);
}
// Columns [column, column + NV vectors) of rows [row, row + kProductRows) of a rows operand.
template <class Cells, int NV>
MAMBASDK_SIMD void put_tile_rows(float* rows, std::int64_t ld, std::int64_t row, std::int64_t column,
                                 const vf (&acc)[kProductRows][NV]) {
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; ++r) {
    if constexpr (NV % 2 == 0) {
#pragma GCC unroll 4
      for (int v = 0; v < NV; v += 2)
        Cells::put_row_pair(rows + (row + r) * ld, column + v * kLanes, acc[r][v], acc[r][v + 1]);
    } else {
      for (int v = 0; v < NV; ++v) Cells::put_row(rows + (row + r) * ld, column + v * kLanes, acc[r][v]);
    }
  }
}
#if defined(__AVX512BF16__)
// Whether a subnormal is among the elements, which the conversion to bfloat16 takes for zero. Integer instructions:
// unlike the classification of floats, they leave the multiply-adds' time alone.
template <int NV>
MAMBASDK_SIMD bool has_subnormal(const vf (&acc)[kProductRows][NV]) {
  __m512i least = _mm512_set1_epi32(-1);
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const vu bits = bits_of(acc[r][v]);
      least = _mm512_min_epu32(least, (__m512i)(bits + bits - 1u));  // without the sign; zero becomes the largest
    }
  return _mm512_cmplt_epu32_mask(least, _mm512_set1_epi32(0x00ffffff)) != 0;
}
#endif

// Rows of a tile, `apart` elements apart.
template <class T, int NV>
MAMBASDK_SIMD void store_rows(T* out, std::int64_t apart, const vf (&acc)[kProductRows][NV]) {
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<T, bf16> && NV % 2 == 0) {
    if (__builtin_expect(!has_subnormal(acc), 1)) {
#pragma GCC unroll 16
      for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v += 2)
          _mm512_storeu_si512(out + r * apart + v * kLanes, narrow_pair(acc[r][v], acc[r][v + 1]));
      return;
    }
  }
#endif
#pragma GCC unroll 16
  for (int r = 0; r < kProductRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(out + r * apart + v * kLanes, acc[r][v]);
}

// Calls f(column, width as a compile-time count of vectors) over stripes of `columns`, a multiple of kLanes.
template <int NV>
struct Width {
  static constexpr int value = NV;
};
template <class F>
MAMBASDK_SIMD void for_stripes(std::int64_t columns, F&& f) {
  std::int64_t j = 0;
  for (; j + kProductColumns <= columns; j += kProductColumns) f(j, Width<kProductVectors>{});
  if constexpr (kProductVectors > 2)
    for (; j + 2 * kLanes <= columns; j += 2 * kLanes) f(j, Width<2>{});
  for (; j < columns; j += kLanes) f(j, Width<1>{});
}

// c (rows,columns) = a b, or += when `add`.
template <class Cells>
__attribute__((noinline)) void product(float* c, std::int64_t ldc, const float* a, std::int64_t lda, const float* b,
                                       std::int64_t ldb, std::int64_t rows, std::int64_t columns, std::int64_t k,
                                       bool add) {
#if defined(MAMBASDK_AMX)
  for (std::int64_t r = 0; !add && r < rows; ++r)
    for (std::int64_t j = 0; j < columns; j += kLanes) store(c + r * ldc + j, zero());
  multiply_matrix(c, ldc, a, lda, b, ldb, rows, columns, k);
#else
  for_stripes(columns, [&](std::int64_t j, auto width) __attribute__((always_inline)) {
    constexpr int NV = decltype(width)::value;
    for (std::int64_t r = 0; r < rows; r += kProductRows) {
      vf acc[kProductRows][NV];
      clear_tile(acc);
      if (add) load_tile(acc, c + r * ldc + j, ldc);
      multiply<Cells>(acc, a + r * lda, lda, b + j, ldb, k);
      store_tile(acc, c + r * ldc + j, ldc);
    }
  });
#endif
}

// ---- layout ----

// dst (columns,rows) = src (rows,columns) of 4-byte cells; both dims multiples of kLanes.
MAMBASDK_SIMD void transpose(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                             std::int64_t columns) {
  for (std::int64_t i = 0; i < rows; i += kLanes) {
    for (std::int64_t j = 0; j < columns; j += kLanes) {
      vf t[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) t[r] = load(src + (i + r) * lds + j);
      transpose(t);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(dst + (j + r) * ldd + i, t[r]);
    }
  }
}

// Blocks of kHalf lanes of the first vector and of the second by turns: those that come first in a pair, or second.
template <int kHalf, int kSecond>
struct HalfPairs {
  static constexpr int at(int c) { return c / kHalf % 2 * kLanes + (c / kHalf / 2 * 2 + kSecond) * kHalf + c % kHalf; }
};
// t[r] = sums of the halves of vectors r and r + kHalf, which keep one row per lane in the end.
template <int kHalf>
MAMBASDK_SIMD void add_halves(vf (&t)[kLanes]) {
#pragma GCC unroll 16
  for (int r = 0; r < kHalf; ++r)
    t[r] = shuffle<HalfPairs<kHalf, 0>>(t[r], t[r + kHalf]) + shuffle<HalfPairs<kHalf, 1>>(t[r], t[r + kHalf]);
}

// sums[r] = the sum over lanes of vector r, for `rows` (a multiple of kLanes) vectors.
MAMBASDK_SIMD void lane_sums(float* sums, const float* vectors, std::int64_t rows) {
  for (std::int64_t i = 0; i < rows; i += kLanes) {
    vf t[kLanes];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) t[r] = load(vectors + (i + r) * kLanes);
    if constexpr (kLanes > 8) add_halves<8>(t);
    if constexpr (kLanes > 4) add_halves<4>(t);
    add_halves<2>(t);
    add_halves<1>(t);
    store(sums + i, t[0]);
  }
}

// Rows operand of a float matrix (rows,columns). `dst` may be `src` for FloatCells.
template <class Cells>
MAMBASDK_SIMD void to_rows(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                           std::int64_t columns) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t j = 0; j < columns; j += kLanes) Cells::put_row(dst + r * ldd, j, load(src + r * lds + j));
}

// Columns operand of a float matrix (rows,columns), row r times scale[r] when there is a scale.
template <class Cells>
MAMBASDK_SIMD void to_columns(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                              std::int64_t columns, const float* scale = nullptr) {
  for (std::int64_t r = 0; r < rows; r += 2) {
    const vf s0 = set1(scale ? scale[r] : 1.0f), s1 = set1(scale ? scale[r + 1] : 1.0f);
    for (std::int64_t j = 0; j < columns; j += kLanes)
      Cells::put_columns(dst + j, ldd, r, s0 * load(src + r * lds + j), s1 * load(src + (r + 1) * lds + j));
  }
}

// Columns operand of a rows operand, row r times scale[r].
template <class Cells>
MAMBASDK_SIMD void scaled_columns(float* dst, std::int64_t ldd, const float* src, std::int64_t lds, std::int64_t rows,
                                  std::int64_t columns, const float* scale) {
  for (std::int64_t r = 0; r < rows; r += 2) {
    const vf s0 = set1(scale[r]), s1 = set1(scale[r + 1]);
    const float *even = src + r * lds, *odd = src + (r + 1) * lds;
    for (std::int64_t j = 0; j < columns; j += kLanes)
      Cells::put_columns(dst + j, ldd, r, s0 * Cells::get_row(even, j), s1 * Cells::get_row(odd, j));
  }
}

// Memory of one row of an input: `stride` elements apart. dst has `padded_columns`, zeros beyond `columns`.
template <class T>
MAMBASDK_SIMD void read_row(float* dst, const T* src, std::int64_t stride, std::int64_t columns,
                            std::int64_t padded_columns) {
  if (stride != 1) {
    for (std::int64_t j = 0; j < columns; ++j) dst[j] = to_float(src[j * stride]);
    for (std::int64_t j = columns; j < padded_columns; ++j) dst[j] = 0.0f;
    return;
  }
  std::int64_t j = 0;
  for (; j + kLanes <= columns; j += kLanes) store(dst + j, load(src + j));
  if (j < columns) {
    store(dst + j, load_n(src + j, static_cast<int>(columns - j)));
    j += kLanes;
  }
  for (; j < padded_columns; j += kLanes) store(dst + j, zero());
}

template <class T>
MAMBASDK_SIMD void write_row(T* dst, const float* src, std::int64_t columns) {
  for (std::int64_t j = 0; j < columns; j += kLanes)
    store_n(dst + j, load(src + j), static_cast<int>(min64(kLanes, columns - j)));
}

}  // namespace mambasdk::MAMBASDK_ISA

// Products with a packed right factor: B (k,n) as panels of kPackedColumns columns, each (k,kPackedColumns) and
// contiguous, zeros beyond n. The layout is the same on every instruction set; a panel may be float32, bfloat16 or
// float16 and is widened when it is read.
//
// Each result is one chain of fused multiply-adds over k, in order: it depends neither on the tile that it falls in nor
// on what stands beside it.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

inline constexpr std::int64_t kPackedColumns = 32;

// A piece of the summed dim that lies in one piece in the rows of A: where it begins there, in elements from the row's
// first, and in the panel, in rows.
struct PackedRun {
  std::int64_t a = 0, b = 0;
};

// Up to packed_tile_rows() rows of C times the columns of one panel. Rows come in two halves, the first (rows + 1) / 2
// of them and the others, each with a beginning of its own: rows of two lines of an image fill one tile.
struct PackedTile {
  const float* a[2] = {};
  std::int64_t a_row = 0;
  const PackedRun* runs = nullptr;
  std::int64_t run_count = 0, run_length = 0;
  const void* panel = nullptr;
  DType panel_type{2, 32};
  int rows = 0;
  int columns = 0;              // of the panel that are wanted; C is written in whole vectors
  const float* bias = nullptr;  // kPackedColumns floats
  float least = 0.0f;           // what is below becomes this: 0 is a rectifier, -infinity nothing
  float* c[2] = {};             // max(least, A B + bias)
  std::int64_t c_row = 0;
};

MAMBASDK_DECLARE_KERNEL(int, packed_tile_rows);
MAMBASDK_DECLARE_KERNEL(void, packed_tile, const PackedTile& tile);
// The same for a panel of bfloat16 where the processor multiplies pairs of them: an element of A is a pair, two
// bfloat16 in one float's place, places in `a` and the length of a run count pairs. Sums are of pairs, in order;
// subnormal factors count as zero.
MAMBASDK_IF_AVX512_BF16(MAMBASDK_DECLARE_IN(avx512_bf16, void, packed_pair_tile, const PackedTile& tile))
// The same for a panel (k / 2, kPackedColumns) of such pairs, in which a column's two rows stand side by side: made for
// one product, where packed panels are kept for many.
MAMBASDK_IF_AVX512_BF16(MAMBASDK_DECLARE_IN(avx512_bf16, void, packed_cell_tile, const PackedTile& tile))

}  // namespace mambasdk

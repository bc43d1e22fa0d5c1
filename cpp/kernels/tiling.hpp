// Tensors of one shape, walked together in tiles: the dims that lie together in all of them are one, so that broadcast,
// sliced and permuted arguments are walked in long rows. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.hpp"

namespace mambasdk {

struct Tensor;

// Tensor 0 is the one that is written. A tile is `tile_rows` x `tile_columns` elements or fewer: its columns are the
// last dim, its rows the dim before, or one along which a tensor that is strided in its columns has unit stride.
// Strides count elements.
struct Tiling {
  static constexpr int kTensors = 5, kOuterDims = 7;
  int tensors = 0;
  int outer_dims = 0;
  std::int64_t outer_size[kOuterDims] = {};
  std::int64_t outer_stride[kTensors][kOuterDims] = {};
  std::int64_t rows = 1, columns = 1;
  std::int64_t row_stride[kTensors] = {}, column_stride[kTensors] = {};
  std::int64_t tile_rows = 1, tile_columns = 1;
  std::int64_t row_tiles = 1, column_tiles = 1, count = 1;
  bool transposes = false;  // some tensor has its unit stride along the rows

  // The most elements of a tile, and those and the columns where a tensor transposes.
  struct Shape {
    std::int64_t elements, transposed_elements, transposed_columns;
  };
  struct Tile {
    std::int64_t rows, columns;
    std::int64_t offset[kTensors];  // of its first element
  };
  MAMBASDK_ALWAYS_INLINE Tile tile(std::int64_t i) const {
    std::int64_t row, column;
    if (transposes) {  // neighbours in memory are in the next tile of rows
      row = i % row_tiles;
      i /= row_tiles;
      column = i % column_tiles;
      i /= column_tiles;
    } else {
      column = i % column_tiles;
      i /= column_tiles;
      row = i % row_tiles;
      i /= row_tiles;
    }
    row *= tile_rows;
    column *= tile_columns;
    Tile out;
    out.rows = rows - row < tile_rows ? rows - row : tile_rows;
    out.columns = columns - column < tile_columns ? columns - column : tile_columns;
    for (int t = 0; t < tensors; ++t) out.offset[t] = row * row_stride[t] + column * column_stride[t];
    for (int d = outer_dims - 1; d >= 0; --d) {
      const std::int64_t at = i % outer_size[d];
      i /= outer_size[d];
      for (int t = 0; t < tensors; ++t) out.offset[t] += at * outer_stride[t][d];
    }
    return out;
  }
};

// Of tensors of one shape with at least one element.
[[nodiscard]] Tiling tiling_of(std::span<const Tensor* const> tensors, const Tiling::Shape& shape);

}  // namespace mambasdk

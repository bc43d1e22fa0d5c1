// Tiles of a copy: runs where both sides have unit stride, squares transposed in registers where the source has it
// along the rows, elements one by one elsewhere.
#include "kernels/strided_copy.hpp"

#include "kernels/transposed_tile.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using Index = std::int64_t;

// memcpy takes its time to choose a way, which pays for long runs alone.
template <class E>
MAMBASDK_SIMD void copy_run(const E* from, E* to, Index n) {
  constexpr Index kWords = 16 / static_cast<Index>(sizeof(E)), kWide = static_cast<Index>(sizeof(vf) / sizeof(E));
  if (n >= 16384) {
    __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(E));
    return;
  }
  if (n < kWords) {
    for (Index i = 0; i < n; ++i) to[i] = from[i];
    return;
  }
  // The last vector overlaps the one before.
  const auto move = [&]<class V>(Index i, V v) __attribute__((always_inline)) {
    __builtin_memcpy(&v, from + i, sizeof v);
    __builtin_memcpy(to + i, &v, sizeof v);
  };
  if (n < kWide) {
    typedef float quarter __attribute__((vector_size(16)));
    for (Index i = 0; i + kWords <= n; i += kWords) move(i, quarter{});
    return move(n - kWords, quarter{});
  }
  for (Index i = 0; i + kWide <= n; i += kWide) move(i, vf{});
  if (n % kWide != 0) move(n - kWide, vf{});
}

template <class E>
MAMBASDK_SIMD void copy_tile(const CopyArgs& a, const Tiling::Tile& tile) {
  const Tiling& t = a.tiles;
  const E* from = static_cast<const E*>(a.from) + tile.offset[1];
  E* to = static_cast<E*>(a.to) + tile.offset[0];
  const Index to_row = t.row_stride[0], to_column = t.column_stride[0];
  const Index row = t.row_stride[1], column = t.column_stride[1];
  if (to_column == 1 && column == 1) {
    for (Index r = 0; r < tile.rows; ++r) copy_run(from + r * row, to + r * to_row, tile.columns);
    return;
  }
  if (to_column == 1 && column == 0) {
    for (Index r = 0; r < tile.rows; ++r) {
      const E value = from[r * row];
      for (Index c = 0; c < tile.columns; ++c) to[r * to_row + c] = value;
    }
    return;
  }
  if constexpr (sizeof(E) == 2 || sizeof(E) == 4) {
    if (to_column == 1 && row == 1) {
      transpose_tile(from, column, to, to_row, tile.rows, tile.columns);
      return;
    }
  }
  for (Index r = 0; r < tile.rows; ++r) {
    for (Index c = 0; c < tile.columns; ++c) to[r * to_row + c * to_column] = from[r * row + c * column];
  }
}

template <class E>
void copy_of(const CopyArgs& a, const Parallel& parallel) {
  const Index elements = a.tiles.tile_rows * a.tiles.tile_columns, grain = elements < 16384 ? 16384 / elements : 1;
  parallel(a.tiles.count, grain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) copy_tile<E>(a, a.tiles.tile(i));
  });
}

}  // namespace

void copy_tiles(const CopyArgs& a, const Parallel& parallel) {
  switch (a.element_bytes) {
    case 1:
      return copy_of<std::uint8_t>(a, parallel);
    case 2:
      return copy_of<std::uint16_t>(a, parallel);
    case 4:
      return copy_of<std::uint32_t>(a, parallel);
    default:
      return copy_of<std::uint64_t>(a, parallel);
  }
}

}  // namespace mambasdk::MAMBASDK_ISA

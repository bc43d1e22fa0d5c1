// The limit of products in the tile registers of AMX (limits.hpp).
#include "kernels/tile_amx.hpp"
#include "limits.hpp"

#if defined(MAMBASDK_AMX)

namespace mambasdk::MAMBASDK_ISA {

void limit_tiles(std::int64_t count, const Parallel& parallel) {
  parallel(count / 4, 1 << 10, [&](std::int64_t begin, std::int64_t end) {
    alignas(64) float cells[2][kTileSide * kTileSide] = {};
    const TileSession session(/*halves=*/false);
    asm volatile("" ::: "memory");
    _tile_loadd(4, cells[0], kTileSide * kCellBytes);
    _tile_loadd(5, cells[0], kTileSide * kCellBytes);
    _tile_loadd(6, cells[1], kTileSide * kCellBytes);
    _tile_loadd(7, cells[1], kTileSide * kCellBytes);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::int64_t i = begin; i < end; ++i) {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, cells[0], kTileSide * kCellBytes);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA

#endif

// Register tiles over packed panels (contract: packed.hpp).
#include "kernels/packed_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {

int packed_tile_rows() {
  MAMBASDK_SHARE_AVX512(false, packed_tile_rows());
  return kMaxRows;
}

void packed_tile(const PackedTile& tile) {
  MAMBASDK_SHARE_AVX512(false, packed_tile(tile));
  with_type(tile.panel_type, [&]<class W>(W) __attribute__((always_inline)) { multiply_panel<SingleRows<W>>(tile); });
}

}  // namespace mambasdk::MAMBASDK_ISA

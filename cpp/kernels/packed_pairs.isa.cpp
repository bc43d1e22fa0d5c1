// Register tiles over panels of bfloat16, two rows at a time (contract: packed.hpp).
#include "kernels/packed_simd.hpp"

#if defined(__AVX512BF16__)

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Element i of the permutation: column 16 * half + i / 2 of the first row, then of the second.
template <int kHalf>
struct Interleaved {
  static constexpr int at(int i) { return 16 * kHalf + i / 2 + (i % 2 != 0 ? 32 : 0); }
};

MAMBASDK_SIMD vf add_pairs(vf sum, vf x, vf w) {
  return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
}

// Two of a panel's rows at a time, and two elements of A.
struct RowPairs {
  using Element = bf16;
  static constexpr int kStep = 2;
  typedef std::uint16_t Row __attribute__((vector_size(64)));

  template <int kVectors>
  MAMBASDK_SIMD void read(const bf16* b, vf (&w)[kVectors]) {
    // Panels are read from their first column on, so a row is one vector.
    const Row first = (Row)load_bits(b), second = (Row)load_bits(b + kPackedColumns);
    w[0] = (vf)shuffle<Interleaved<0>>(first, second);
    if constexpr (kVectors == 2) w[1] = (vf)shuffle<Interleaved<1>>(first, second);
  }
  MAMBASDK_SIMD vf add_product(vf sum, vf x, vf w) { return add_pairs(sum, x, w); }
};

// The same where the panel's rows are pairs already.
struct CellRows : SingleRows<float> {
  MAMBASDK_SIMD vf add_product(vf sum, vf x, vf w) { return add_pairs(sum, x, w); }
};

}  // namespace

void packed_pair_tile(const PackedTile& tile) {
  multiply_panel<RowPairs>(tile);
}

void packed_cell_tile(const PackedTile& tile) {
  multiply_panel<CellRows>(tile);
}

}  // namespace mambasdk::MAMBASDK_ISA

#endif

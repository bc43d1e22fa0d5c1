// The product of many rows: a thread packs a few panels of weights where they stay in its second-level cache, and takes
// many rows of x through them.
#include "kernels/packed.hpp"
#include "kernels/transpose.hpp"
#include "ops/linear/linear.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace linear;
using Index = std::int64_t;

constexpr Index kMostTileRows = 16;
constexpr Index kBlockRows = 112;         // rows of a task, at most
constexpr Index kBlockBytes = 400 << 10;  // packed weights of a task
constexpr Index kMostPanels = kMaxPackedBlock / kPackedColumns;

MAMBASDK_SIMD Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
MAMBASDK_SIMD Index least(Index a, Index b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD Index piece_begin(Index n, Index pieces, Index i) {
  return n / pieces * i + least(i, n % pieces);
}

// How a call is cut, by its shape alone: rows of the same panels are neighbours, so that a thread packs them once.
struct Cut {
  Index depth, panels, panels_each, column_blocks, row_blocks;

  MAMBASDK_ALWAYS_INLINE explicit Cut(const BlockArgs& a)
      : depth(a.pairs ? ceil_div(a.in_features, kPairedElements) : a.in_features),
        panels(ceil_div(a.out_features, kPackedColumns)) {
    panels_each = kBlockBytes / (panel_floats() * static_cast<Index>(sizeof(float)) + 1);
    panels_each = panels_each < 1 ? 1 : least(panels_each, kMostPanels);
    column_blocks = ceil_div(panels, panels_each);
    row_blocks = ceil_div(a.rows, kBlockRows);
  }
  [[nodiscard]] MAMBASDK_ALWAYS_INLINE Index panel_floats() const { return depth * kPackedColumns; }
};

// Panel: kPackedColumns outputs from `first` on as (depth, kPackedColumns), zeros where there are none. read(row, p)
// gives kLanes cells of an output's weights from cell p on, zeros beyond the last.
template <class W, class Read>
MAMBASDK_SIMD void pack_panel(const BlockArgs& a, Index first, Index depth, float* panel, Read&& read) {
  const Index wanted = least(kPackedColumns, a.out_features - first);
  for (Index j = 0; j < kPackedColumns; j += kLanes) {
    for (Index p = 0; p < depth; p += kLanes) {
      vf square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        square[i] = j + i < wanted ? read(row_of<W>(a.weight, first + j + i), p) : zero();
      }
      transpose(square);
      const Index count = least(kLanes, depth - p);
      for (Index i = 0; i < count; ++i) store(panel + (p + i) * kPackedColumns + j, square[i]);
    }
  }
}

void pack_floats(const BlockArgs& a, Index first, Index depth, float* panel) {
  with_type(a.weight.type, [&]<class W>(W) {
    pack_panel<W>(a, first, depth, panel, [&](const W* row, Index p) __attribute__((always_inline)) {
      return load_n(row + p, static_cast<int>(least(depth - p, kLanes)));
    });
  });
}

#if defined(__AVX512BF16__)
void pack_pairs(const BlockArgs& a, Index first, Index depth, float* panel) {
  pack_panel<bf16>(a, first, depth, panel, [&](const bf16* row, Index p) __attribute__((always_inline)) {
    const Index left = a.in_features - p * kPairedElements;
    if (left >= kPairedElements * kLanes) return load_bits(row + p * kPairedElements);
    return (vf)_mm512_maskz_loadu_epi16((__mmask32{1} << left) - 1, row + p * kPairedElements);
  });
}
#endif

// One thread's work.
class Worker {
 public:
  Worker(const BlockArgs& a, const Cut& cut, float* panels)
      : a_(a), cut_(cut), panels_(panels), most_(packed_tile_rows()) {
    tile_.runs = &run_;
    tile_.run_count = 1;
    tile_.run_length = cut.depth;
    tile_.a_row = a.x_stride;
    tile_.least = -__builtin_inff();
    tile_.bias = bias_;
  }

  void run(Index task) {
    const Index block = task / cut_.row_blocks, part = task % cut_.row_blocks;
    const Index begin = block * cut_.panels_each, end = least(begin + cut_.panels_each, cut_.panels);
    if (block != block_) {
      block_ = block;
      for (Index q = begin; q < end; ++q) pack(q * kPackedColumns, panels_ + (q - begin) * cut_.panel_floats());
    }
    const Index first = piece_begin(a_.rows, cut_.row_blocks, part);
    const Index rows = piece_begin(a_.rows, cut_.row_blocks, part + 1) - first;
    const Index tiles = ceil_div(rows, most_);
    for (Index t = 0; t < tiles; ++t) {
      const Index row = first + piece_begin(rows, tiles, t);
      const Index count = first + piece_begin(rows, tiles, t + 1) - row;
      for (Index q = begin; q < end; ++q) multiply(row, count, q, panels_ + (q - begin) * cut_.panel_floats());
    }
  }

 private:
  void pack(Index first, float* panel) const {
#if defined(__AVX512BF16__)
    if (a_.pairs) return pack_pairs(a_, first, cut_.depth, panel);
#endif
    pack_floats(a_, first, cut_.depth, panel);
  }
  void multiply_tile() const {
#if defined(__AVX512BF16__)
    if (a_.pairs) return packed_cell_tile(tile_);
#endif
    packed_tile(tile_);
  }

  void multiply(Index row, Index count, Index panel, const float* weights) {
    const Index column = panel * kPackedColumns, columns = least(kPackedColumns, a_.out_features - column);
    if (a_.bias.data != nullptr) {
      const float* bias = read_row(a_.bias, 0, bias_, columns, column);
      if (bias != bias_) write_out(bias, bias_, {2, 32}, 0, columns);
    }
    const Index half = (count + 1) / 2;
    tile_.a[0] = a_.x + row * a_.x_stride;
    tile_.a[1] = tile_.a[0] + half * a_.x_stride;
    tile_.panel = weights;
    tile_.rows = static_cast<int>(count);
    tile_.columns = static_cast<int>(columns);
    if (is_float(a_.y_type) && columns % kLanes == 0) {
      tile_.c[0] = static_cast<float*>(a_.y) + row * a_.out_features + column;
      tile_.c[1] = tile_.c[0] + half * a_.out_features;
      tile_.c_row = a_.out_features;
      return multiply_tile();
    }
    alignas(64) float values[kMostTileRows * kPackedColumns];
    tile_.c[0] = values;
    tile_.c[1] = values + half * kPackedColumns;
    tile_.c_row = kPackedColumns;
    multiply_tile();
    for (Index r = 0; r < count; ++r) {
      write_out(values + r * kPackedColumns, a_.y, a_.y_type, (row + r) * a_.out_features + column, columns);
    }
  }

  const BlockArgs& a_;
  const Cut& cut_;
  float* panels_;
  Index most_, block_ = -1;
  PackedRun run_;
  PackedTile tile_;
  alignas(64) float bias_[kPackedColumns] = {};
};

}  // namespace

bool linear_blocks(const BlockArgs& a, const Parallel& parallel, const ThreadScratch& scratch) {
  MAMBASDK_SHARE_AVX512(a.pairs || a.y_type == dtype::bf16, linear_blocks(a, parallel, scratch));
  const Cut cut(a);
  const auto bytes = static_cast<std::size_t>(cut.panels_each * cut.panel_floats() + kLanes) * sizeof(float);  // not 0
  bool ok = true;
  parallel(cut.column_blocks * cut.row_blocks, 1, [&](Index begin, Index end) {
    auto* panels = static_cast<float*>(scratch.get(scratch.self, bytes));
    if (panels == nullptr) {
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
      return;
    }
    Worker worker(a, cut, panels);
    for (Index task = begin; task < end; ++task) worker.run(task);
    scratch.put(scratch.self, panels, bytes);
  });
  return ok;
}

}  // namespace mambasdk::MAMBASDK_ISA

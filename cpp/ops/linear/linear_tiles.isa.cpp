// The product of many rows in the tile registers of AMX. Outputs are the rows of a tile and rows of x its columns: so
// weights are read in the order in which they lie, x, of which there is less, is transposed once for all of them, and
// results are transposed on their way to y.
#include "kernels/tile_amx.hpp"
#include "kernels/transpose.hpp"
#include "ops/linear/linear.hpp"
#include "ops/rows_simd.hpp"

#if defined(MAMBASDK_AMX)

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace linear;
using Index = std::int64_t;

constexpr Index kTileCells = kTileSide * kTileSide;
constexpr Index kSide = 2 * kTileSide;          // outputs and rows of x of four sums
constexpr Index kSquare = kSide * kSide;        // those sums
constexpr Index kStepElements = kTileBlock;     // of the summed dim, of one product of tiles
constexpr Index kStepCells = 2 * kTileCells;    // of one such step of kSide rows
constexpr Index kNearSteps = 12;                // whose weights stay in the first-level cache
constexpr Index kSquares = 4;                   // squares of sums that wait for the next steps
constexpr Index kBlockRows = 8 * kSide;         // rows of x of a task, at most
constexpr Index kMostBlockOutputs = 4 * kSide;  // outputs of a task, at most
constexpr Index kManyOutputs = 32 * kSide;      // from here on tasks have so many
static_assert(kStepElements == kTileSide * kPairedElements);

MAMBASDK_SIMD Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
MAMBASDK_SIMD Index least(Index a, Index b) {
  return a < b ? a : b;
}

// sums (kSide, kSide) = or += weights x over `steps`, kOutputs and kRows tiles of them.
template <int kOutputs, int kRows>
MAMBASDK_SIMD void accumulate(float* sums, const float* weights, const float* x, Index steps, bool first) {
  constexpr Index kPitch = kSide * kCellBytes, kTilePitch = kTileSide * kCellBytes;
  float *right = sums + kTileSide, *low = sums + kTileSide * kSide, *corner = low + kTileSide;
  asm volatile("" ::: "memory");  // gcc 12 does not know that tile loads read memory
  if (first) {
    _tile_zero(0);
    if constexpr (kRows == 2) _tile_zero(1);
    if constexpr (kOutputs == 2) _tile_zero(2);
    if constexpr (kOutputs == 2 && kRows == 2) _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kPitch);
    if constexpr (kRows == 2) _tile_loadd(1, right, kPitch);
    if constexpr (kOutputs == 2) _tile_loadd(2, low, kPitch);
    if constexpr (kOutputs == 2 && kRows == 2) _tile_loadd(3, corner, kPitch);
  }
  for (Index s = 0; s < steps; ++s, weights += kStepCells, x += kStepCells) {
    _tile_loadd(4, weights, kTilePitch);
    _tile_loadd(6, x, kTilePitch);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kRows == 2) {
      _tile_loadd(7, x + kTileCells, kTilePitch);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kOutputs == 2) {
      _tile_loadd(5, weights + kTileCells, kTilePitch);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kRows == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums, kPitch);
  if constexpr (kRows == 2) _tile_stored(1, right, kPitch);
  if constexpr (kOutputs == 2) _tile_stored(2, low, kPitch);
  if constexpr (kOutputs == 2 && kRows == 2) _tile_stored(3, corner, kPitch);
  asm volatile("" ::: "memory");
}

// One thread's work. A task is some rows of x times some outputs; the sums of kSquares squares are made together, side
// by side along y's rows where a task has that many outputs.
class Worker {
 public:
  Worker(const TileArgs& a, Index block_outputs, float* weights)
      : a_(a), steps_(tile_steps(a.in_features)), block_outputs_(block_outputs), weights_(weights) {}

  void run(Index task) {
    const Index row_blocks = ceil_div(a_.rows, kBlockRows);
    const Index first = task / row_blocks * block_outputs_, end = least(first + block_outputs_, a_.out_features);
    if (first != packed_) pack(first, end);
    const Index first_row = task % row_blocks * kBlockRows, end_row = least(first_row + kBlockRows, a_.rows);
    const Index rows_each = kSquares * kSide * kSide / block_outputs_;
    for (Index row = first_row; row < end_row; row += rows_each) {
      const Index last_row = least(row + rows_each, end_row);
      multiply(end - first, row, last_row);
      write(first, end - first, row, last_row);
    }
  }

 private:
  // Tiles of 16 outputs and 32 elements, one after the other along the summed dim, zeros where there is nothing.
  void pack(Index first, Index end) {
    packed_ = first;
    float* to = weights_;
    for (Index o = first; o < end; o += kSide) {
      for (Index i = 0; i < kSide; ++i) {
        float* cells = to + i * kTileSide;
        if (o + i >= end) {
          for (Index s = 0; s < steps_; ++s) store(cells + s * kStepCells, zero());
          continue;
        }
        const bf16* row = row_of<bf16>(a_.weight, o + i);
        Index s = 0;
        for (; (s + 1) * kStepElements <= a_.in_features; ++s)
          store(cells + s * kStepCells, load_bits(row + s * kStepElements));
        if (s == steps_) continue;
        const Index left = a_.in_features - s * kStepElements;
        store(cells + s * kStepCells,
              (vf)_mm512_maskz_loadu_epi16((__mmask32{1} << left) - 1, row + s * kStepElements));
      }
      to += steps_ * kStepCells;
    }
  }

  [[nodiscard]] float* sums_of(Index output, Index row) {
    return sums_ + (row / kSide * (block_outputs_ / kSide) + output / kSide) * kSquare;
  }

  void multiply(Index outputs, Index first_row, Index end_row) {
    for (Index s = 0; s < steps_ || s == 0; s += kNearSteps) {
      const Index steps = least(kNearSteps, steps_ - s);
      for (Index row = first_row; row < end_row; row += kSide) {
        const float* x = a_.x + (row / kSide * steps_ + s) * kStepCells;
        const bool tall = end_row - row > kTileSide;
        for (Index o = 0; o < outputs; o += kSide) {
          const float* weights = weights_ + (o / kSide * steps_ + s) * kStepCells;
          float* sums = sums_of(o, row - first_row);
          if (outputs - o > kTileSide) {
            if (tall) {
              accumulate<2, 2>(sums, weights, x, steps, s == 0);
            } else {
              accumulate<2, 1>(sums, weights, x, steps, s == 0);
            }
          } else if (tall) {
            accumulate<1, 2>(sums, weights, x, steps, s == 0);
          } else {
            accumulate<1, 1>(sums, weights, x, steps, s == 0);
          }
        }
      }
    }
  }

  void write(Index first, Index outputs, Index first_row, Index end_row) {
    for (Index row = first_row; row < end_row; row += kTileSide) {
      const int rows = static_cast<int>(least(kTileSide, end_row - row));
      for (Index o = 0; o < outputs; o += kTileSide) {
        const int columns = static_cast<int>(least(kTileSide, outputs - o));
        const float* sums = sums_of(o, row - first_row) + o % kSide * kSide + (row - first_row) % kSide;
        write_tile(sums, first + o, columns, row, rows);
      }
    }
  }

  // sums[i * kSide + r] + the bias of output + i to y[row + r, output + i].
  void write_tile(const float* sums, Index output, int columns, Index row, int rows) const {
    vf square[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) square[i] = load(sums + i * kSide);
    transpose(square);
    vf bias = zero();
    if (a_.bias.data != nullptr) {
      alignas(64) float buffer[kTileSide];
      bias = load_n(read_row(a_.bias, 0, buffer, columns, output), columns);
    }
    const Index at = row * a_.out_features + output;
    if (is_float(a_.y_type) && rows == kTileSide && columns == kTileSide) {
      float* y = static_cast<float*>(a_.y) + at;
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(y + r * a_.out_features, square[r] + bias);
      return;
    }
    alignas(64) float values[kTileCells];
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) store(values + r * kLanes, square[r] + bias);
    for (int r = 0; r < rows; ++r) {
      write_out(values + r * kLanes, a_.y, a_.y_type, at + r * a_.out_features, columns);
    }
  }

  const TileArgs& a_;
  Index steps_, block_outputs_, packed_ = -1;
  float* weights_;
  alignas(64) float sums_[kSquares * kSquare];
};

}  // namespace

void linear_tile_input(const TileInputArgs& a, const Parallel& parallel) {
  constexpr Index kPiece = 16 * kStepElements;
  const Index steps = tile_steps(a.columns);
  // Work items are sixteen rows.
  parallel(tile_rows(a.count) / kTileSide, 1 + 16384 / (a.columns + 1), [&](Index begin, Index end) {
    alignas(64) float buffer[kPiece];
    alignas(64) bf16 rounded[kTileSide][kPiece];
    for (Index t = begin; t < end; ++t) {
      const Index row = t * kTileSide, rows = least(kTileSide, a.count - row);
      float* out = a.out + (t / 2 * steps * 2 + t % 2) * kTileCells;
      for (Index first = 0; first < steps * kStepElements; first += kPiece) {
        const Index n = least(kPiece, a.columns - first), padded = ceil_div(n, kStepElements) * kStepElements;
        for (Index r = 0; r < kTileSide; ++r) {
          bf16* to = rounded[r];
          if (r < rows) narrow(read_row(a.rows, row + r, buffer, n, first), to, n);
          for (Index i = r < rows ? n : 0; i < padded; ++i) to[i] = bf16{};
        }
        for (Index i = 0; i < padded; i += kStepElements, out += kStepCells) {
          vf square[kLanes];
#pragma GCC unroll 16
          for (int r = 0; r < kLanes; ++r) square[r] = load_bits(rounded[r] + i);
          transpose(square);
#pragma GCC unroll 16
          for (int r = 0; r < kLanes; ++r) store(out + r * kTileSide, square[r]);
        }
      }
    }
  });
}

bool linear_tiles(const TileArgs& a, const Parallel& parallel, const ThreadScratch& scratch) {
  // By the shape alone. Few outputs are cut finer, so that there is work for every thread.
  const Index block_outputs = a.out_features >= kManyOutputs ? kMostBlockOutputs : kSide;
  const Index steps = tile_steps(a.in_features);
  const auto bytes = static_cast<std::size_t>(block_outputs / kSide * steps * kStepCells + kLanes) * sizeof(float);
  bool ok = true;
  parallel(ceil_div(a.out_features, block_outputs) * ceil_div(a.rows, kBlockRows), 1, [&](Index begin, Index end) {
    auto* weights = static_cast<float*>(scratch.get(scratch.self, bytes));
    if (weights == nullptr) {
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
      return;
    }
    {
      const TileSession session(/*halves=*/false);
      Worker worker(a, block_outputs, weights);
      for (Index task = begin; task < end; ++task) worker.run(task);
    }
    scratch.put(scratch.self, weights, bytes);
  });
  return ok;
}

}  // namespace mambasdk::MAMBASDK_ISA

#endif

// Elementwise functions over tiles that stay in the first-level cache. A tile of an argument is read where it lies if
// it is float32 of unit stride; else it is brought into a buffer: widened, repeated where its stride is 0, transposed.
#include "ops/elementwise/elementwise.hpp"

#include "kernels/transposed_tile.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace elementwise;
using Index = std::int64_t;

MAMBASDK_SIMD void fill(float* to, float value, Index n) {
  for_lanes(n, [&](Index i, int count) __attribute__((always_inline)) { store_n(to + i, set1(value), count); });
}

// (rows, columns) of any strides into contiguous float32.
template <class T>
[[gnu::noinline]] void read_tile(const T* from, Index row, Index column, Index rows, Index columns, float* to) {
  if (column == 0) {
    if (row == 0) return fill(to, to_float(from[0]), rows * columns);
    for (Index r = 0; r < rows; ++r) fill(to + r * columns, to_float(from[r * row]), columns);
    return;
  }
  if (row == 1 && rows > 1) return transpose_tile(from, column, to, columns, rows, columns);
  if (column == 1 && row == columns) return widen(from, 1, to, rows * columns);
  const Index different = row == 0 ? 1 : rows;
  for (Index r = 0; r < different; ++r) widen(from + r * row, column, to + r * columns, columns);
  Index done = different * columns;  // the rest are copies, each of all before
  for (const Index all = rows * columns; done < all;) {
    const Index n = done < all - done ? done : all - done;
    __builtin_memcpy(to + done, to, static_cast<std::size_t>(n) * sizeof(float));
    done += n;
  }
}

// An argument's tile: elements at data + r * row + c.
struct Source {
  const float* data = nullptr;
  Index row = 0;
};

class Worker {
 public:
  Worker(const Args& a, Piece piece) : a_(a), piece_(piece), turned_(a.tiles.transposes) {
    for (int k = 0; k < kMostInputs && a.in[k].data != nullptr; ++k) {
      const Index row = a.tiles.row_stride[k + 1];
      turned_ = turned_ && (row == 0 || row == 1);
    }
  }

  void run(const Tiling::Tile& tile) {
    if (turned_) return run_turned(tile);
    const Index row_stride = a_.tiles.row_stride[0];
    const bool flat = tile.rows == 1 || row_stride == tile.columns;
    compute(tile, {tile.rows, tile.columns, a_.tiles.row_stride, a_.tiles.column_stride}, flat,
            [&](Index r, Index n, float*(&out)[kMostOutputs], bool done) __attribute__((always_inline)) {
              const Index at = tile.offset[0] + r * row_stride;
              for (int k = 0; k < kMostOutputs && a_.out[k].data != nullptr; ++k) {
                if (done) {
                  write_out(out[k], a_.out[k].data, a_.out[k].type, at, n);
                } else {
                  out[k] = output_at(a_.out[k].data, a_.out[k].type, at, out_buffers_[k]);
                }
              }
            });
  }

 private:
  // A tile's extents, and each tensor's strides.
  struct Walk {
    Index rows, columns;
    const Index *row, *column;
  };

  // Where all arguments lie in another order than the outputs, the function is computed in theirs: only its values are
  // transposed.
  void run_turned(const Tiling::Tile& tile) {
    constexpr Index kShort = 32;  // a call for each row would take longer than to bring rows together
    compute(tile, {tile.columns, tile.rows, a_.tiles.column_stride, a_.tiles.row_stride}, tile.rows < kShort,
            [&](Index r, Index, float*(&out)[kMostOutputs], bool) __attribute__((always_inline)) {
              for (int k = 0; k < kMostOutputs && a_.out[k].data != nullptr; ++k)
                out[k] = out_buffers_[k] + r * tile.rows;
            });
    for (int k = 0; k < kMostOutputs && a_.out[k].data != nullptr; ++k) {
      with_type(a_.out[k].type, [&]<class T>(T) __attribute__((always_inline)) {
        transpose_tile(static_cast<const float*>(out_buffers_[k]), tile.rows,
                       static_cast<T*>(a_.out[k].data) + tile.offset[0], a_.tiles.row_stride[0], tile.rows,
                       tile.columns);
      });
    }
  }

  // Row by row or, `flat`, all rows at once. place(row, n, out, false) says where the outputs are computed, place(…,
  // true) comes after it.
  template <class F>
  MAMBASDK_ALWAYS_INLINE void compute(const Tiling::Tile& tile, const Walk& walk, bool flat, F&& place) {
    Source sources[kMostInputs];
    for (int k = 0; k < kMostInputs && a_.in[k].data != nullptr; ++k) sources[k] = read(k, tile, walk, flat);
    const Index rows = flat ? 1 : walk.rows, n = flat ? walk.rows * walk.columns : walk.columns;
    for (Index r = 0; r < rows; ++r) {
      const float* in[kMostInputs] = {};
      float* out[kMostOutputs] = {};
      for (int k = 0; k < kMostInputs; ++k)
        in[k] = sources[k].data != nullptr ? sources[k].data + r * sources[k].row : nullptr;
      place(r, n, out, false);
      apply(in, out, n);
      place(r, n, out, true);
    }
  }

  Source read(int k, const Tiling::Tile& tile, const Walk& walk, bool flat) {
    const Args::Array& array = a_.in[k];
    const Index row = walk.row[k + 1], column = walk.column[k + 1], offset = tile.offset[k + 1];
    const bool contiguous = walk.rows == 1 || row == walk.columns;
    if (is_float(array.type) && column == 1 && (contiguous || !flat))
      return {static_cast<const float*>(array.data) + offset, row};
    // What the last tile had is there still, where the argument is broadcast.
    Held& held = held_[k];
    if (held.offset != offset || held.columns != walk.columns || held.rows < walk.rows) {
      held = {offset, walk.rows, walk.columns};
      with_type(array.type, [&]<class T>(T) __attribute__((always_inline)) {
        read_tile(static_cast<const T*>(array.data) + offset, row, column, walk.rows, walk.columns, in_buffers_[k]);
      });
    }
    return {in_buffers_[k], walk.columns};
  }

  // Whole vectors where they lie, the rest by way of one.
  void apply(const float* const (&in)[kMostInputs], float* const (&out)[kMostOutputs], Index n) {
    const Index whole = n - n % kLanes;
    if (whole > 0) piece_(in, a_.parameters, out, whole);
    if (whole == n) return;
    const int rest = static_cast<int>(n - whole);
    alignas(64) float buffers[kMostInputs + kMostOutputs][kLanes];
    const float* last[kMostInputs] = {};
    float* made[kMostOutputs] = {};
    for (int k = 0; k < kMostInputs && in[k] != nullptr; ++k) {
      store(buffers[k], load_n(in[k] + whole, rest));
      last[k] = buffers[k];
    }
    for (int k = 0; k < kMostOutputs && out[k] != nullptr; ++k) made[k] = buffers[kMostInputs + k];
    piece_(last, a_.parameters, made, kLanes);
    for (int k = 0; k < kMostOutputs && out[k] != nullptr; ++k)
      store_n(out[k] + whole, load(static_cast<const float*>(made[k])), rest);
  }

  struct Held {
    Index offset = -1, rows = 0, columns = 0;
  };
  const Args& a_;
  Piece piece_;
  bool turned_;
  Held held_[kMostInputs];
  alignas(64) float in_buffers_[kMostInputs][kTransposedElements];
  alignas(64) float out_buffers_[kMostOutputs][kTransposedElements];
};

}  // namespace

void elementwise_tiles(const Args& a, const Parallel& parallel) {
  const Piece piece = elementwise_piece(a.function, a.gradient);
  const Index elements = a.tiles.tile_rows * a.tiles.tile_columns, grain = elements < 16384 ? 16384 / elements : 1;
  parallel(a.tiles.count, grain, [&](Index begin, Index end) {
    Worker worker(a, piece);
    for (Index i = begin; i < end; ++i) worker.run(a.tiles.tile(i));
  });
}

}  // namespace mambasdk::MAMBASDK_ISA

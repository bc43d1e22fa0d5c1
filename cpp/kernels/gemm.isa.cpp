// Matrix products (contract: gemm.hpp): B packed once into float32 panels, then register tiles over row and column
// blocks. Few rows are not worth that: with B transposed (decode) they are dot products that stream B, and the rows of
// a float32 B are read where they lie.
#include "kernels/gemm.hpp"

#include "core/simd_types.hpp"
#include "kernels/tile.hpp"
#include "kernels/transpose.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr std::int64_t kRowBlock = 64;     // rows of C per task, at most
constexpr std::int64_t kPanelBlock = 8;    // panels (of kTileColumns columns) of C per task
constexpr std::int64_t kDepthBlock = 192;  // rows of a panel that stay in the first-level cache
constexpr std::int64_t kStreamRows = 4;    // at most this many rows run as dot products
constexpr std::int64_t kDirectRows = 32;   // at most this many rows run on B as it lies

std::int64_t min64(std::int64_t a, std::int64_t b) {
  return a < b ? a : b;
}
std::int64_t blocks(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}
// Rows of C per task: as even as they can be, or one thread waits for the other's last block.
std::int64_t row_block(const Gemm& g) {
  return blocks(g.m, blocks(g.m, kRowBlock));
}
bool streams(const Gemm& g) {
  return g.m <= kStreamRows && g.b_transposed && g.a_col == 1;
}
// Panels from this one on are packed: all of them, or the last where it is narrower than a tile.
std::int64_t first_packed(const Gemm& g) {
  const bool direct = g.m <= kDirectRows && !g.b_transposed && g.b_dtype == dtype::f32;
  return direct ? g.n / kTileColumns : 0;
}

// Panel: columns j0..j0+kTileColumns of B, (k, kTileColumns), zeros beyond n.
template <class T>
void pack_panel(const Gemm& g, std::int64_t j0, float* panel) {
  const T* b = static_cast<const T*>(g.b);
  const std::int64_t width = min64(kTileColumns, g.n - j0);
  if (g.b_transposed) {
    for (std::int64_t p0 = 0; p0 < g.k; p0 += kLanes) {
      const int depth = static_cast<int>(min64(kLanes, g.k - p0));
      for (std::int64_t j = 0; j < kTileColumns; j += kLanes) {
        vf square[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          square[i] = j + i < width ? load_n(b + (j0 + j + i) * g.b_row + p0, depth) : zero();
        }
        transpose(square);
        for (int p = 0; p < depth; ++p) store(panel + (p0 + p) * kTileColumns + j, square[p]);
      }
    }
    return;
  }
  for (std::int64_t p = 0; p < g.k; ++p) {
    const T* row = b + p * g.b_row + j0;
    for (int v = 0; v < kTileVectors; ++v) {
      const std::int64_t left = width - v * kLanes;
      store(panel + p * kTileColumns + v * kLanes,
            left > 0 ? load_n(row + v * kLanes, static_cast<int>(min64(left, kLanes))) : zero());
    }
  }
}

// Rows of B's columns of one tile.
struct Panel {
  const float* data;
  std::int64_t stride;
};

template <int MR, Layout A>
void tile(const float* a, std::int64_t lda, Panel panel, std::int64_t depth, float* c, std::int64_t ldc,
          std::int64_t width, bool add) {
  vf acc[MR][kTileVectors];
  clear_tile(acc);
  multiply_tile<MR, kTileVectors, A>(acc, a, lda, panel.data, panel.stride, depth);
  if (width >= kTileColumns) {
    if (add) {
      for (int r = 0; r < MR; ++r)
        for (int v = 0; v < kTileVectors; ++v) acc[r][v] += load(c + r * ldc + v * kLanes);
    }
    store_tile(acc, c, ldc);
    return;
  }
  for (int r = 0; r < MR; ++r) {
    for (int v = 0; v < kTileVectors; ++v) {
      const int left = static_cast<int>(width) - v * kLanes;
      if (left <= 0) break;
      float* out = c + r * ldc + v * kLanes;
      const int count = left < kLanes ? left : kLanes;
      store_n(out, add ? acc[r][v] + load_n(static_cast<const float*>(out), count) : acc[r][v], count);
    }
  }
}

template <Layout A>
void tile_rows(std::int64_t rows, const float* a, std::int64_t lda, Panel panel, std::int64_t depth, float* c,
               std::int64_t ldc, std::int64_t width, bool add) {
  const std::int64_t step = A == Layout::row_major ? lda : 1;
  std::int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows)
    tile<kTileRows, A>(a + r * step, lda, panel, depth, c + r * ldc, ldc, width, add);
  for (; r + 4 <= rows; r += 4) tile<4, A>(a + r * step, lda, panel, depth, c + r * ldc, ldc, width, add);
  for (; r + 2 <= rows; r += 2) tile<2, A>(a + r * step, lda, panel, depth, c + r * ldc, ldc, width, add);
  if (r < rows) tile<1, A>(a + r * step, lda, panel, depth, c + r * ldc, ldc, width, add);
}

// y[i,j] = x_i . w_j for MR rows x and NR rows of B, in one pass over those rows.
template <class T, int MR, int NR>
void dot_rows(const Gemm& g, std::int64_t i0, std::int64_t j0) {
  const T* w = static_cast<const T*>(g.b) + j0 * g.b_row;
  const float* x = g.a + i0 * g.a_row;
  vf acc[MR][NR];
  clear_tile(acc);
  std::int64_t p = 0;
  for (; p + kLanes <= g.k; p += kLanes) {
    vf wv[NR];
#pragma GCC unroll 8
    for (int j = 0; j < NR; ++j) wv[j] = load(w + j * g.b_row + p);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const vf xv = load(x + i * g.a_row + p);
#pragma GCC unroll 8
      for (int j = 0; j < NR; ++j) acc[i][j] += xv * wv[j];
    }
  }
  if (p < g.k) {
    const int left = static_cast<int>(g.k - p);
    for (int j = 0; j < NR; ++j) {
      const vf wv = load_n(w + j * g.b_row + p, left);
      for (int i = 0; i < MR; ++i) acc[i][j] += load_n(x + i * g.a_row + p, left) * wv;
    }
  }
  for (int i = 0; i < MR; ++i) {
    float* c = g.c + (i0 + i) * g.c_row + j0;
    for (int j = 0; j < NR; ++j) c[j] = reduce_add(acc[i][j]) + (g.accumulate ? c[j] : 0.0f);
  }
}

template <class T, int MR>
void dot_range(const Gemm& g, std::int64_t i0, std::int64_t begin, std::int64_t end) {
  std::int64_t j = begin;
  for (; j + 4 <= end; j += 4) dot_rows<T, MR, 4>(g, i0, j);
  for (; j < end; ++j) dot_rows<T, MR, 1>(g, i0, j);
}

template <class T>
void stream(const Gemm& g, const Parallel& parallel) {
  // Blocks of four rows of B start at multiples of four, whatever the ranges are: one order of sums for each output.
  const std::int64_t quads = blocks(g.n, 4);
  const std::int64_t grain = 1 + 16384 / (4 * g.k + 1);
  parallel(quads, grain, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t j0 = begin * 4, j1 = min64(end * 4, g.n);
    switch (g.m) {
      case 1:
        return dot_range<T, 1>(g, 0, j0, j1);
      case 2:
        return dot_range<T, 2>(g, 0, j0, j1);
      case 3:
        return dot_range<T, 3>(g, 0, j0, j1);
      default:
        return dot_range<T, 4>(g, 0, j0, j1);
    }
  });
}

// A as the tiles want it: unit stride along k or along m.
struct Operand {
  const float* data;
  std::int64_t lda;
  bool row_major;
};

void multiply_block(const Gemm& g, const float* panels, std::int64_t i0, std::int64_t panel0) {
  const std::int64_t rows = min64(row_block(g), g.m - i0);
  const std::int64_t panel1 = min64(panel0 + kPanelBlock, blocks(g.n, kTileColumns)), packed = first_packed(g);
  alignas(64) float copy[kRowBlock * kDepthBlock];  // A[i0.., p0..] when neither of its strides is 1
  for (std::int64_t p0 = 0; p0 < g.k; p0 += kDepthBlock) {
    const std::int64_t depth = min64(kDepthBlock, g.k - p0);
    const float* a = g.a + i0 * g.a_row + p0 * g.a_col;
    Operand x{a, g.a_row, true};
    if (g.a_col != 1) {
      for (std::int64_t p = 0; p < depth; ++p)
        for (std::int64_t r = 0; r < rows; ++r) copy[p * kRowBlock + r] = a[r * g.a_row + p * g.a_col];
      x = {copy, kRowBlock, false};
    }
    const bool add = g.accumulate || p0 > 0;
    for (std::int64_t q = panel0; q < panel1; ++q) {
      const Panel panel = q < packed ? Panel{static_cast<const float*>(g.b) + p0 * g.b_row + q * kTileColumns, g.b_row}
                                     : Panel{panels + ((q - packed) * g.k + p0) * kTileColumns, kTileColumns};
      float* c = g.c + i0 * g.c_row + q * kTileColumns;
      const std::int64_t width = g.n - q * kTileColumns;
      if (x.row_major)
        tile_rows<Layout::row_major>(rows, x.data, x.lda, panel, depth, c, g.c_row, width, add);
      else
        tile_rows<Layout::column_major>(rows, x.data, x.lda, panel, depth, c, g.c_row, width, add);
    }
  }
}

}  // namespace

std::int64_t gemm_workspace_bytes(const Gemm& g) {
  if (streams(g)) return 0;
  const std::int64_t packed = blocks(g.n, kTileColumns) - first_packed(g);
  return packed * kTileColumns * g.k * static_cast<std::int64_t>(sizeof(float));
}

void gemm(const Gemm& g, void* workspace, const Parallel& parallel) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    if (!g.accumulate)
      for (std::int64_t i = 0; i < g.m; ++i)
        for (std::int64_t j = 0; j < g.n; ++j) g.c[i * g.c_row + j] = 0.0f;
    return;
  }
  if (streams(g)) {
    return with_type(g.b_dtype, [&]<class T>(T) { stream<T>(g, parallel); });
  }
  float* panels = static_cast<float*>(workspace);
  const std::int64_t panel_count = blocks(g.n, kTileColumns), packed = first_packed(g);
  if (panel_count > packed)
    parallel(panel_count - packed, 1 + 16384 / (g.k * kTileColumns), [&](std::int64_t begin, std::int64_t end) {
      with_type(g.b_dtype, [&]<class T>(T) {
        for (std::int64_t q = begin; q < end; ++q)
          pack_panel<T>(g, (packed + q) * kTileColumns, panels + q * g.k * kTileColumns);
      });
    });
  const std::int64_t column_blocks = blocks(panel_count, kPanelBlock);
  parallel(blocks(g.m, kRowBlock) * column_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t)
      multiply_block(g, panels, t / column_blocks * row_block(g), t % column_blocks * kPanelBlock);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA

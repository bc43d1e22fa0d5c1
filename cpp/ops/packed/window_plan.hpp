// How the windows of a call are cut into blocks, and where a block's input lies. By shape alone. For *.isa.cpp only.
#pragma once

#include "core/simd.hpp"
#include "kernels/packed.hpp"
#include "ops/packed/windows.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace packed;
using Index = std::int64_t;

MAMBASDK_SIMD Index at_least_one(Index n) {
  return n > 1 ? n : 1;
}
MAMBASDK_SIMD Index least(Index a, Index b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD Index ceil_div(Index a, Index b) {
  return a / b + (a % b != 0 ? 1 : 0);
}
// Where piece i of n begins that are cut into `pieces`, as even as they can be.
MAMBASDK_SIMD Index piece_begin(Index n, Index pieces, Index i) {
  return n / pieces * i + least(i, n % pieces);
}

// The input of `n` neighbouring windows along one dim: either everything from the first to the last that they see, or,
// where that is more (wide dilations and strides), one line of n for each tap.
struct Line {
  Index windows = 1;
  bool by_tap = false;
  Index extent = 1;
  Index step = 1;    // from window to window
  Index lowest = 0;  // offset of the first

  MAMBASDK_SIMD Line of(const Windows& w, int dim, Index n) {
    const Tap* taps = w.taps[dim];
    if (w.tap_count[dim] == 0) return {n, true, 0, 1, 0};
    Index low = taps[0].offset, high = low;
    for (Index t = 1; t < w.tap_count[dim]; ++t) {
      low = least(low, taps[t].offset);
      high = taps[t].offset > high ? taps[t].offset : high;
    }
    const Index apart = w.tap_count[dim] * n;
    Index together;
    const bool overflows = __builtin_mul_overflow(n - 1, w.step[dim], &together) ||
                           __builtin_add_overflow(together, high - low + 1, &together);
    if (overflows || together > apart) return {n, true, apart, 1, low};
    return {n, false, together, w.step[dim], low};
  }
  // Where the first window's element of a tap lies.
  [[nodiscard]] MAMBASDK_ALWAYS_INLINE Index place(const Tap* taps, Index t) const {
    return by_tap ? t * windows : taps[t].offset - lowest;
  }
};

// Whether the processor's products of bfloat16 pairs are these products.
MAMBASDK_SIMD bool multiplies_pairs(const Windows& w) {
#if defined(__AVX512BF16__)
  return w.pairs && w.weight_type == dtype::bf16 && w.channels % 2 == 0 && (w.rounds || w.x_type == dtype::bf16);
#else
  return w.channels < 0;
#endif
}

// Whether rows of a tile that are so many floats apart share a few lines of the first-level cache, which then holds
// none of them until the next element is read.
MAMBASDK_SIMD bool collides(Index distance) {
  constexpr Index kPage = 1024;  // floats; caches look a line up by its place in 4 KiB
  return distance > 0 && distance % kPage == 0;
}

// From pixel to pixel of a block's input that is copied.
MAMBASDK_SIMD Index pixel_pitch(const Windows& w) {
  constexpr Index kGap = 16;                           // a line of the cache
  const bool whole = w.rounds || multiplies_pairs(w);  // these go through the input as one piece
  const bool gap = !whole && (collides(w.channels) || collides(w.channels * w.step[2]));
  return w.channels + (gap ? kGap : 0);
}

// Cut of the windows: blocks of height x width windows of one depth, whose input stays in the second-level cache; each
// with a part of the panels.
struct Plan {
  bool direct = false;          // x is read where it is
  Index height = 1, width = 1;  // windows of a block, at most
  Index height_blocks = 1, width_blocks = 1, panel_parts = 1;
  Index depth = 0;     // rows of a panel
  Index elements = 0;  // of a block's input, at most
  Index tasks = 0, grain = 1;

  static constexpr Index kBlockFloats = 64 * 1024;
  static constexpr Index kTasks = 16;  // that there should be, so that threads have equal shares

  MAMBASDK_SIMD bool reads_in_place(const Windows& w) {
    if (w.x_type != dtype::f32 || w.rounds || (w.x_stride[4] != 1 && w.channels > 1)) return false;
    if (w.count[2] > 2 && w.columns > kPackedColumns && collides(w.step[2] * w.x_stride[3])) return false;
    for (int d = 0; d < 3; ++d) {
      for (Index t = 0; t < w.tap_count[d]; ++t) {
        const Index first = w.taps[d][t].offset, last = (w.count[d] - 1) * w.step[d] + first;
        if (first < 0 || last >= w.in[d]) return false;
      }
    }
    return true;
  }
  [[nodiscard]] MAMBASDK_ALWAYS_INLINE Index input_floats(const Windows& w, Index h, Index v) const {
    return w.tap_count[0] * Line::of(w, 1, h).extent * Line::of(w, 2, v).extent * pixel_pitch(w);
  }

  MAMBASDK_SIMD Plan of(const Windows& w) {
    Plan p;
    const Index tile = packed_tile_rows();
    p.direct = reads_in_place(w);
    p.depth = w.kernel[0] * w.kernel[1] * w.kernel[2] * w.channels;
    p.height_blocks = w.count[1];
    p.width = w.count[2];
    while (p.width > tile && p.input_floats(w, 1, p.width) > kBlockFloats) {
      p.width_blocks = at_least_one(least(2 * p.width_blocks, ceil_div(w.count[2], tile)));
      p.width = ceil_div(w.count[2], p.width_blocks);
    }
    if (p.width_blocks == 1) {
      Index height = 1;
      while (height < w.count[1] && p.input_floats(w, 2 * height, p.width) <= kBlockFloats) height *= 2;
      p.height_blocks = ceil_div(w.count[1], least(height, w.count[1]));
    }
    const Index outer = w.batch * w.count[0] * w.groups;
    const Index blocks = outer * p.height_blocks * p.width_blocks;
    if (blocks < kTasks) p.panel_parts = least(w.panels, ceil_div(kTasks, blocks));
    const Index wanted = ceil_div(kTasks, blocks * p.panel_parts);
    if (wanted > 1 && p.width_blocks == 1 && w.count[1] > 1) {
      p.height_blocks = least(p.height_blocks * wanted, ceil_div(w.count[1], 2));
    } else if (wanted > 1 && w.count[1] == 1) {
      p.width_blocks = least(p.width_blocks * wanted, ceil_div(w.count[2], tile));
    }
    p.height = ceil_div(w.count[1], p.height_blocks);
    p.width = ceil_div(w.count[2], p.width_blocks);
    p.elements = p.direct ? 0 : p.input_floats(w, p.height, p.width);
    p.tasks = outer * p.height_blocks * p.width_blocks * p.panel_parts;
    // A product of few rows reads its weights for as long as one of eight computes.
    const Index rows = p.height * p.width + 8, products = p.depth * kPackedColumns * ceil_div(w.panels, p.panel_parts);
    p.grain = at_least_one((Index{1} << 19) / at_least_one(rows * at_least_one(products)));
    return p;
  }
};

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

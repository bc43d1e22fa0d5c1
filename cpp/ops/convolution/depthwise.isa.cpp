// Depthwise convolutions: lanes are channels, a tile is a few neighbouring outputs of a line.
#include "ops/convolution/depthwise.hpp"

#include "core/simd_types.hpp"
#include "kernels/packed.hpp"
#include "ops/packed/pixels.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace convolution;
using Index = std::int64_t;
constexpr int kTile = 8;  // outputs: enough independent sums to hide the latency of an addition

MAMBASDK_SIMD Index least(Index a, Index b) {
  return a < b ? a : b;
}
MAMBASDK_SIMD Index greatest(Index a, Index b) {
  return a > b ? a : b;
}

// Taps of one dim that an output at place `o` sees: those k with 0 <= o * stride - padding + k * dilation < in.
struct Seen {
  Index first, end;

  MAMBASDK_SIMD Seen of(const DepthwiseArgs& a, int d, Index o) {
    const Index start = o * a.stride[d] - a.padding[d];
    const Index before = start < 0 ? (-start - 1) / a.dilation[d] + 1 : 0, left = a.in[d] - start;
    const Index end = left <= 0 ? 0 : (left - 1) / a.dilation[d] + 1;
    return {before, greatest(before, least(end, a.kernel[d]))};
  }
};

// What a tile reads: neighbouring lanes of the first output's first tap, and how far apart taps and outputs are.
struct Input {
  const float* first;
  Index depth, height, width, output;
};

// One line of outputs, one vector of channels: `count` of them from `c` on.
struct OutputLine {
  const DepthwiseArgs& a;
  const float* plane;  // the batch entry
  Index row;           // of y, of the first output
  Index start[2];      // of the depth and the height, in x
  Seen seen[2];
  bool plain;  // results.hpp
  float least_result;
  Index c;
  int count;

  // kCount outputs of which `wanted` exist, from `o` on, through the taps `across`; kWhole: there are kLanes channels.
  template <int kCount, bool kWhole>
  MAMBASDK_ALWAYS_INLINE void tile_of(const Input& x, Seen across, Index o, int wanted) const {
    const int lanes = kWhole ? kLanes : count;
    vf sum[kCount];
    const vf bias = a.bias != nullptr ? load_n(a.bias + c, lanes) : zero();
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) sum[i] = bias;
    const float* line_of_depth = x.first;
    for (Index d = seen[0].first; d < seen[0].end; ++d, line_of_depth += x.depth) {
      const float* line = line_of_depth;
      for (Index h = seen[1].first; h < seen[1].end; ++h, line += x.height) {
        const float* weight = a.weight + ((d * a.kernel[1] + h) * a.kernel[2] + across.first) * a.channels + c;
        const float* at = line;
        for (Index k = across.first; k < across.end; ++k, at += x.width, weight += a.channels) {
          const vf w = load_n(weight, lanes);
#pragma GCC unroll 8
          for (int i = 0; i < kCount; ++i) sum[i] = fma(load_n(at + i * x.output, lanes), w, sum[i]);
        }
      }
    }
    if (plain && wanted == kCount) {
      float* y = static_cast<float*>(a.results.y) + (row + o) * a.results.columns + c;
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) store_n(y + i * a.results.columns, max(set1(least_result), sum[i]), lanes);
      return;
    }
    alignas(64) float values[kCount * kPackedColumns];
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) store(values + i * kPackedColumns, sum[i]);
    finish_tile(a.results, {values, {row + o, row + o}, wanted, wanted, 1, c, lanes});
  }
  template <int kCount>
  [[gnu::noinline]] void tile(const Input& x, Seen across, Index o, int wanted) const {
    if (count == kLanes) return tile_of<kCount, true>(x, across, o, wanted);
    tile_of<kCount, false>(x, across, o, wanted);
  }

  // The element of x that the first tap seen of the depth and the height reads, at place w of the width.
  [[nodiscard]] const float* element(Index w) const {
    return plane + c + (start[0] + seen[0].first * a.dilation[0]) * a.x_stride[1] +
           (start[1] + seen[1].first * a.dilation[1]) * a.x_stride[2] + w * a.x_stride[3];
  }
  [[nodiscard]] Input in_place(Index w) const {
    return {element(w), a.dilation[0] * a.x_stride[1], a.dilation[1] * a.x_stride[2], a.dilation[2] * a.x_stride[3],
            a.stride[2] * a.x_stride[3]};
  }

  // Outputs that see the padding, or fewer than a tile: what they see is copied, with zeros, where that is little.
  void at_border(Index o, int wanted) const {
    constexpr Index kMost = 256;  // vectors
    const Index left = o * a.stride[2] - a.padding[2];
    Index width;
    const bool large = __builtin_add_overflow((kTile - 1) * a.stride[2], (a.kernel[2] - 1) * a.dilation[2] + 1, &width);
    const Index depths = seen[0].end - seen[0].first, heights = seen[1].end - seen[1].first;
    if (large || a.stride[2] > kMost || width > kMost || depths * heights > kMost / width) {
      for (Index i = o; i < o + wanted; ++i) {
        const Seen across = Seen::of(a, 2, i);
        if (across.first < across.end) {
          tile<1>(in_place(i * a.stride[2] - a.padding[2] + across.first * a.dilation[2]), across, i, 1);
        } else {
          tile<1>({}, across, i, 1);
        }
      }
      return;
    }
    const Index begin = least(width, greatest(0, -left)), end = greatest(begin, least(width, a.in[2] - left));
    alignas(64) float copy[kMost * kLanes];
    float* to = copy;
    for (Index d = 0; d < depths; ++d) {
      for (Index h = 0; h < heights; ++h) {
        const float* from = element(0) + d * a.dilation[0] * a.x_stride[1] + h * a.dilation[1] * a.x_stride[2];
        Index w = 0;
        for (; w < begin; ++w, to += kLanes) store(to, zero());
        for (; w < end; ++w, to += kLanes) store(to, load_n(from + (left + w) * a.x_stride[3], count));
        for (; w < width; ++w, to += kLanes) store(to, zero());
      }
    }
    tile<kTile>({copy, heights * width * kLanes, width * kLanes, a.dilation[2] * kLanes, a.stride[2] * kLanes},
                {0, a.kernel[2]}, o, wanted);
  }

  // Whole tiles of whole vectors, from channel c on.
  [[gnu::noinline]] void inside_tiles(Index o, Index left) {
    Input x = in_place(left);
    for (; c + kLanes <= a.channels; c += kLanes, x.first += kLanes)
      tile_of<kTile, true>(x, {0, a.kernel[2]}, o, kTile);
  }

  // The last tile begins early enough to be whole: some outputs are computed twice.
  void run() {
    for (Index o = 0; o < a.out[2]; o += kTile) {
      const Index begin = greatest(0, least(o, a.out[2] - kTile)), left = begin * a.stride[2] - a.padding[2];
      const Index end = left + (kTile - 1) * a.stride[2] + (a.kernel[2] - 1) * a.dilation[2];
      const bool inside = a.out[2] >= kTile && left >= 0 && end < a.in[2];
      c = 0;
      if (inside) inside_tiles(begin, left);
      for (; c < a.channels; c += kLanes) {
        count = static_cast<int>(least(kLanes, a.channels - c));
        if (inside) {
          tile<kTile>(in_place(left), {0, a.kernel[2]}, begin, kTile);
        } else {
          at_border(begin, static_cast<int>(least(kTile, a.out[2] - begin)));
        }
      }
    }
  }
};

}  // namespace

void convolution_depthwise(const DepthwiseArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(false, convolution_depthwise(a, parallel));
  float least_result;
  const bool plain = stores_sums(a.results, least_result);
  // An item is a few lines, of which a vector of channels stays in the first-level cache.
  const Index planes = a.batch * a.out[0];
  const Index rows = greatest(1, least(8, planes * a.out[1] / 16)), items = (a.out[1] + rows - 1) / rows;
  const Index work = rows * a.out[2] * a.channels * (a.kernel[0] * a.kernel[1] * a.kernel[2] + 2);
  parallel(planes * items, greatest(1, (Index{1} << 18) / greatest(1, work)), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index first = i % items * rows, plane = i / items, depth = plane % a.out[0], batch = plane / a.out[0];
      for (Index height = first; height < least(first + rows, a.out[1]); ++height) {
        OutputLine line{a,
                        a.x + batch * a.x_stride[0],
                        (plane * a.out[1] + height) * a.out[2],
                        {depth * a.stride[0] - a.padding[0], height * a.stride[1] - a.padding[1]},
                        {Seen::of(a, 0, depth), Seen::of(a, 1, height)},
                        plain,
                        least_result,
                        0,
                        kLanes};
        line.run();
      }
    }
  });
}

void convolution_copy(const CopyArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(false, convolution_copy(a, parallel));
  const Index line = a.in[2] * a.channels, size = a.x_type.bits / 8;
  parallel(a.batch * a.in[0] * a.in[1], greatest(1, 16384 / greatest(1, line)), [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const Index height = i % a.in[1], depth = i / a.in[1] % a.in[0], batch = i / a.in[1] / a.in[0];
      const Index from = batch * a.x_stride[0] + depth * a.x_stride[1] + height * a.x_stride[2];
      copy_pixels({static_cast<const char*>(a.x) + from * size, a.x_type, a.x_stride[3], a.x_stride[4], a.channels,
                   a.in[2], a.channels},
                  0, 1, a.in[2], a.to + i * line);
    }
  });
}

}  // namespace mambasdk::MAMBASDK_ISA

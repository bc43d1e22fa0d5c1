// Which elements positions read, and with which weights, for a vector of positions at a time. Whatever a position is,
// the elements are inside of x. For *.isa.cpp only.
#pragma once

#include "ops/rows_simd.hpp"
#include "ops/sampling/sampling_args.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

using namespace sampling;
using Index = std::int64_t;

// Of one axis.
template <int kTaps>
struct AxisTaps {
  vi index[kTaps];
  vf weight[kTaps];
};

// Both for numbers below 2^22 in size.
MAMBASDK_SIMD vf round_even(vf x) {
  return (x + set1(0x1.8p23f)) - set1(0x1.8p23f);
}
MAMBASDK_SIMD vf floor(vf x) {
  const vf near = round_even(x);
  return near - select(near > x, set1(1.0f), zero());
}
// `high` for what is no number.
MAMBASDK_SIMD vf limited(vf x, float low, float high) {
  return max(set1(low), min(x, set1(high)));
}

// From a coordinate in [-1, 1] to positions of an axis.
MAMBASDK_SIMD vf position(vf coordinate, float size, bool align_corners) {
  const vf from_edge = coordinate + 1.0f;
  return align_corners ? from_edge * ((size - 1.0f) * 0.5f) : from_edge * (size * 0.5f) - 0.5f;
}

MAMBASDK_SIMD vf reflected(vf x, float size, bool align_corners) {
  const float low = align_corners ? 0.0f : -0.5f, span = align_corners ? size - 1.0f : size;
  if (span <= 0.0f) return zero();
  x = from_bits(bits_of(x - low) & 0x7fffffffu);
  x = x - 2.0f * span * floor(x / (2.0f * span));
  return min(x, 2.0f * span - x) + low;
}

// Where a position is looked up: inside of the axis, or, of zeros, at most one beyond.
MAMBASDK_SIMD vf padded(vf x, float size, const Rule& rule) {
  if (rule.padding == Padding::zeros) return limited(x, -1.0f, size);
  if (rule.padding == Padding::reflection) {
    constexpr float kFar = static_cast<float>(kMostPositions / 2);
    x = reflected(limited(x, -kFar, kFar), size, rule.align_corners);
  }
  return limited(x, 0.0f, size - 1.0f);
}

// Tap k at the whole number `at`: of zeros, without weight beyond the edges.
template <int kTaps>
MAMBASDK_SIMD void set_tap(AxisTaps<kTaps>& taps, int k, vf at, vf weight, float size, const Rule& rule) {
  if (rule.padding == Padding::zeros) weight = select((at >= zero()) & (at <= set1(size - 1.0f)), weight, zero());
  taps.index[k] = __builtin_convertvector(limited(at, 0.0f, size - 1.0f), vi);
  taps.weight[k] = weight;
}

MAMBASDK_SIMD void find_taps(AxisTaps<1>& taps, vf x, float size, const Rule& rule) {
  set_tap(taps, 0, round_even(padded(x, size, rule)), set1(1.0f), size, rule);
}
MAMBASDK_SIMD void find_taps(AxisTaps<2>& taps, vf x, float size, const Rule& rule) {
  x = padded(x, size, rule);
  const vf first = floor(x), fraction = x - first;
  set_tap(taps, 0, first, 1.0f - fraction, size, rule);
  set_tap(taps, 1, first + 1.0f, fraction, size, rule);
}
// Keys' cubic convolution with a = -0.75, each tap padded for itself, as torch's.
MAMBASDK_SIMD void find_taps(AxisTaps<4>& taps, vf x, float size, const Rule& rule) {
  constexpr float a = -0.75f, kFar = static_cast<float>(kMostPositions / 2);
  x = limited(x, -kFar, kFar);
  const vf first = floor(x), t = x - first, u = 1.0f - t;
  const auto near = [](vf d) __attribute__((always_inline)) { return ((a + 2.0f) * d - (a + 3.0f)) * d * d + 1.0f; };
  const auto far = [](vf d)
                       __attribute__((always_inline)) { return ((a * d - 5.0f * a) * d + 8.0f * a) * d - 4.0f * a; };
  const vf weight[4] = {far(t + 1.0f), near(t), near(u), far(u + 1.0f)};
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    vf at = first + static_cast<float>(k - 1);
    if (rule.padding == Padding::reflection) at = round_even(reflected(at, size, rule.align_corners));
    set_tap(taps, k, at, weight[k], size, rule);
  }
}

// Positions together with the elements that they read: `kCount` each.
constexpr int kPoints = kMostTaps;
template <int kCount>
struct Points {
  alignas(64) float at[3][kPoints];   // width, height, depth
  alignas(64) float factor[kPoints];  // of all weights of a point
  alignas(64) std::int32_t offset[kCount][kPoints];
  alignas(64) float weight[kCount][kPoints];
  alignas(64) float is_read[kPoints];  // not 0 where any weight is not
};

// offset and weight, from `at` in positions of x and `factor`, for n points.
template <int kTaps, int kAxes, int kCount>
[[gnu::noinline]] void find_elements(Points<kCount>& p, Index n, const Map& x, const Rule& rule) {
  static_assert(kCount == (kAxes == 2 ? kTaps * kTaps : kTaps * kTaps * kTaps));
  for (Index i = 0; i < n; i += kLanes) {
    AxisTaps<kTaps> taps[3];
    for (int axis = 0; axis < kAxes; ++axis) {
      find_taps(taps[axis], load(p.at[axis] + i), static_cast<float>(x.size[2 - axis]), rule);
      const auto stride = static_cast<std::int32_t>(x.stride[2 - axis]);
      for (int k = 0; k < kTaps; ++k) taps[axis].index[k] = taps[axis].index[k] * stride;
    }
    const vf factor = load(p.factor + i);
    vf most = zero();
    constexpr int kPlanes = kAxes == 2 ? 1 : kTaps;
    int k = 0;
    for (int plane = 0; plane < kPlanes; ++plane) {
      for (int row = 0; row < kTaps; ++row) {
        vf weight = factor * taps[1].weight[row];
        vi offset = taps[1].index[row];
        if constexpr (kAxes == 3) {
          weight = weight * taps[2].weight[plane];
          offset = offset + taps[2].index[plane];
        }
        for (int column = 0; column < kTaps; ++column, ++k) {
          const vf w = weight * taps[0].weight[column];
          const vi at = offset + taps[0].index[column];
          store(p.weight[k] + i, w);
          __builtin_memcpy(p.offset[k] + i, &at, sizeof at);
          most = select(w != zero(), set1(1.0f), most);
        }
      }
    }
    store(p.is_read + i, most);
  }
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

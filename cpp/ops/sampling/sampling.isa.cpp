// Sampling in two steps: for a batch of positions, which elements they read and with which weights, as vectors of
// positions; then for each of them the weighted sum, as vectors of channels.
#include "ops/sampling/sampling_args.hpp"

#include "ops/sampling/offsets_simd.hpp"
#include "ops/sampling/taps_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// The last n channels of a point's sum, fewer than a vector.
template <int kCount, class T>
MAMBASDK_SIMD void sum_last(const Points<kCount>& p, Index i, const T* x, int n, T* y, const T* end) {
  vf sum = zero();
  for (int k = 0; k < kCount && p.is_read[i] != 0.0f; ++k)
    sum = fma(set1(p.weight[k][i]), load_n(x + p.offset[k][i], n), sum);
  if (end - y >= kLanes) {
    store(y, sum);
  } else {
    store_n(y, sum, n);
  }
}
// The same as a function: parts of vectors of 16 bits take much code.
template <int kCount, class T>
[[gnu::noinline]] void call_sum_last(const Points<kCount>& p, Index i, const T* x, int n, T* y, const T* end) {
  sum_last(p, i, x, n, y, end);
}

// The weighted sum of point i's elements, for n channels, whose elements behind it may be written up to `end`.
template <int kCount, class T>
MAMBASDK_SIMD void sum_point(const Points<kCount>& p, Index i, const T* x, Index n, T* y, const T* end) {
  const Index whole = n / kLanes * kLanes;
  if (p.is_read[i] == 0.0f) {
    for (Index c = 0; c < whole; c += kLanes) store(y + c, zero());
  } else if constexpr (kCount <= 8) {
    const T* from[kCount];
    vf weight[kCount];
#pragma GCC unroll 8
    for (int k = 0; k < kCount; ++k) {
      from[k] = x + p.offset[k][i];
      weight[k] = set1(p.weight[k][i]);
    }
    for (Index c = 0; c < whole; c += kLanes) {
      vf sum = weight[0] * load(from[0] + c);
#pragma GCC unroll 8
      for (int k = 1; k < kCount; ++k) sum = fma(weight[k], load(from[k] + c), sum);
      store(y + c, sum);
    }
  } else {
    for (Index c = 0; c < whole; c += kLanes) {
      vf sum = zero();
      for (int k = 0; k < kCount; ++k) sum = fma(set1(p.weight[k][i]), load(x + p.offset[k][i] + c), sum);
      store(y + c, sum);
    }
  }
  if (whole == n) return;
  const int left = static_cast<int>(n - whole);
  if constexpr (sizeof(T) == sizeof(float)) {
    sum_last(p, i, x + whole, left, y + whole, end);
  } else {
    call_sum_last(p, i, x + whole, left, y + whole, end);
  }
}

// n pairs of coordinates, one behind the other.
MAMBASDK_SIMD void read_pairs(const float* from, Index n, float* x, float* y) {
  vi even;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) even[i] = 2 * i;
  for (Index i = 0; i < n; i += kLanes) {
    const Index left = 2 * (n - i);
    const auto part = [&](Index first) __attribute__((always_inline)) {
      const Index count = left - first;
      return count > 0 ? load_n(from + 2 * i + first, count < kLanes ? static_cast<int>(count) : kLanes) : zero();
    };
    const vf low = part(0), high = part(kLanes);
    store(x + i, pick(low, high, even));
    store(y + i, pick(low, high, even + 1));
  }
}

// Coordinates of points [first, first + n) of one batch entry of the grid.
template <int kAxes, int kCount>
MAMBASDK_SIMD void read_coordinates(const GridArgs& a, const float* grid, Index first, Index n, Points<kCount>& p) {
  const Index* stride = a.grid_stride;
  const bool is_dense = stride[4] == 1 && stride[3] == 2 && stride[2] == 2 * a.size[2] &&
                        (a.size[0] == 1 || stride[1] == stride[2] * a.size[1]);
  if (kAxes == 2 && is_dense) return read_pairs(grid + 2 * first, n, p.at[0], p.at[1]);
  Index w = first % a.size[2], h = first / a.size[2] % a.size[1], d = first / a.size[2] / a.size[1];
  for (Index i = 0; i < n; ++i) {
    const float* from = grid + d * stride[1] + h * stride[2] + w * stride[3];
    for (int axis = 0; axis < kAxes; ++axis) p.at[axis][i] = from[axis * stride[4]];
    if (++w < a.size[2]) continue;
    w = 0;
    if (++h < a.size[1]) continue;
    h = 0;
    ++d;
  }
  for (Index i = n; i % kLanes != 0; ++i)
    for (int axis = 0; axis < kAxes; ++axis) p.at[axis][i] = 0.0f;
}

// The same as positions of x.
template <int kAxes, int kCount>
[[gnu::noinline]] void read_grid(const GridArgs& a, const float* grid, Index first, Index n, Points<kCount>& p) {
  read_coordinates<kAxes>(a, grid, first, n, p);
  for (int axis = 0; axis < kAxes; ++axis) {
    for (Index i = 0; i < n; i += kLanes) {
      const float* coordinates = p.at[axis] + i;
      store(p.at[axis] + i, position(load(coordinates), static_cast<float>(a.x.size[2 - axis]), a.rule.align_corners));
    }
  }
}

template <int kTaps, int kAxes, class T>
void grid_of(const GridArgs& a, const Parallel& parallel) {
  constexpr int kCount = kAxes == 2 ? kTaps * kTaps : kTaps * kTaps * kTaps;
  const Index points = a.size[0] * a.size[1] * a.size[2], chunks = (points + kPoints - 1) / kPoints;
  const Index channels = a.x.channels, work = kPoints * (channels + 16) * kCount;
  parallel(a.x.batch * chunks, work < 32768 ? 32768 / work : 1, [&](Index begin, Index end) {
    Points<kCount> p;
    for (float& factor : p.factor) factor = 1.0f;
    for (Index i = begin; i < end; ++i) {
      const Index b = i / chunks, first = i % chunks * kPoints, left = points - first;
      const Index n = left < kPoints ? left : kPoints;
      const T* x = static_cast<const T*>(a.x.data) + b * a.x.batch_stride;
      T* y = static_cast<T*>(a.y) + (b * points + first) * channels;
      read_grid<kAxes>(a, a.grid + b * a.grid_stride[0], first, n, p);
      find_elements<kTaps, kAxes>(p, n, a.x, a.rule);
      const T* stop = y + n * channels;
      for (Index k = 0; k < n; ++k) sum_point(p, k, x, channels, y + k * channels, stop);
    }
  });
}

template <class T>
void grid_of(const GridArgs& a, const Parallel& parallel) {
  if (a.rule.mode == Mode::cubic) return grid_of<4, 2, T>(a, parallel);
  if (a.axes == 2) {
    return a.rule.mode == Mode::nearest ? grid_of<1, 2, T>(a, parallel) : grid_of<2, 2, T>(a, parallel);
  }
  return a.rule.mode == Mode::nearest ? grid_of<1, 3, T>(a, parallel) : grid_of<2, 3, T>(a, parallel);
}

// n channels of a group: the sum over points [first, first + taps).
template <class T>
MAMBASDK_SIMD void sum_group(const Points<4>& p, Index first, Index taps, const T* x, Index n, T* y) {
  for_lanes(n, [&](Index c, int lanes) __attribute__((always_inline)) {
    vf sum[4] = {};
    for (Index i = first; i < first + taps; ++i) {
      if (p.is_read[i] == 0.0f) continue;
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sum[k] = fma(set1(p.weight[k][i]), load_n(x + p.offset[k][i] + c, lanes), sum[k]);
    }
    store_n(y + c, (sum[0] + sum[1]) + (sum[2] + sum[3]), lanes);
  });
}

template <class T>
void deformable(const DeformableArgs& a, const Parallel& parallel) {
  const Index taps = a.kernel[0] * a.kernel[1], channels = a.x.channels, depth = channels / a.groups;
  const Index together = kPoints / taps < a.groups ? kPoints / taps : a.groups;
  const Index work = taps * (channels + 16 * a.groups) * 4;
  const Rule rule;
  parallel(a.x.batch * a.size[0] * a.size[1], work < 32768 ? 32768 / work : 1, [&](Index begin, Index end) {
    Points<4> p;
    for (Index i = begin; i < end; ++i) {
      const Index w = i % a.size[1], h = i / a.size[1] % a.size[0], b = i / a.size[1] / a.size[0];
      const T* row = static_cast<const T*>(a.offset_mask) + b * a.offset_mask_stride[0] + h * a.offset_mask_stride[1] +
                     w * a.offset_mask_stride[2];
      const T* x = static_cast<const T*>(a.x.data) + b * a.x.batch_stride;
      T* y = static_cast<T*>(a.y) + i * channels;
      for (Index g = 0; g < a.groups; g += together) {
        const Index groups = a.groups - g < together ? a.groups - g : together;
        Index n = 0;
        for (Index k = 0; k < groups; ++k) n = read_taps(a, row, g + k, h, w, p, n);
        clear_rest(p, n);
        find_elements<2, 2>(p, n, a.x, rule);
        for (Index k = 0; k < groups; ++k)
          sum_group(p, k * taps, taps, x + (g + k) * depth, depth, y + (g + k) * depth);
      }
    }
  });
}

}  // namespace

void grid_sample(const GridArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, grid_sample(a, parallel));
  with_own_type(a.x.type, [&]<class T>(T) { grid_of<T>(a, parallel); });
}

void deformable_sample(const DeformableArgs& a, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(a.x.type == dtype::bf16, deformable_sample(a, parallel));
  with_own_type(a.x.type, [&]<class T>(T) { deformable<T>(a, parallel); });
}

}  // namespace mambasdk::MAMBASDK_ISA

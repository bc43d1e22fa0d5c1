// Derivative of deformable_sample in two passes, neither of which adds to the same element from two threads: that of
// offsets and masks gathers, position by position; that of x adds, for one group's channels at a time, all positions in
// their order. So sums are the same whatever the threads.
#include "ops/sampling/offsets_simd.hpp"
#include "ops/sampling/sampling_args.hpp"
#include "ops/vector_sums.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr Index kFewTasks = 16;        // of which each may be split by channels
constexpr Index kChannelBlock = 16;    // into these
constexpr int kTogether = kLanes / 4;  // points whose four dot products fill a vector

template <class T>
MAMBASDK_SIMD const T* entries_at(const DeformableArgs& a, Index b, Index h, Index w) {
  const Index* stride = a.offset_mask_stride;
  return static_cast<const T*>(a.offset_mask) + b * stride[0] + h * stride[1] + w * stride[2];
}
template <class T>
MAMBASDK_SIMD const T* grad_at(const DeformableGradientArgs& d, Index b, Index h, Index w) {
  const Index* stride = d.grad_y_stride;
  return static_cast<const T*>(d.grad_y) + b * stride[0] + h * stride[1] + w * stride[2];
}

// What a position's taps have on an axis: their weights, and how these change with the position while it is inside.
struct AxisSlopes {
  AxisTaps<2> taps;
  vf slope[2];
};
MAMBASDK_SIMD AxisSlopes find_slopes(vf x, float size) {
  AxisSlopes s;
  find_taps(s.taps, x, size, Rule{});
  const vf first = floor(limited(x, -1.0f, size));
  s.slope[0] = select(first >= zero(), set1(-1.0f), zero());
  s.slope[1] = select(first < set1(size - 1.0f), set1(1.0f), zero());
  return s;
}

// Of each of four elements, dot products of points; the last vector of them may be written beyond.
using Dots = float[4][kPoints + kTogether];

// dot[k][i] of points [first, first + taps): element k of point i times grad, over n channels.
template <class T>
MAMBASDK_SIMD void dot_points(const Points<4>& p, Index first, Index taps, const T* x, const T* grad, Index n,
                              Dots& dot) {
  const Index end = first + taps;
  for (Index i = first; i < end; i += kTogether) {
    const T* from[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      const Index point = i + k % kTogether < end ? i + k % kTogether : end - 1;
      from[k] = x + p.offset[k / kTogether][point];
    }
    vf sum[kLanes] = {};
    for_lanes(n, [&](Index c, int lanes) __attribute__((always_inline)) {
      const vf g = load_n(grad + c, lanes);
#pragma GCC unroll 16
      for (int k = 0; k < kLanes; ++k) sum[k] = fma(load_n(from[k] + c, lanes), g, sum[k]);
    });
    const vf dots = reduce_vectors(sum);
    for (int k = 0; k < 4; ++k)
      __builtin_memcpy(dot[k] + i, reinterpret_cast<const char*>(&dots) + k * kTogether * sizeof(float),
                       kTogether * sizeof(float));
  }
}

// From dot products and masks to the gradients of both offsets, in `at`, and of the mask, in `factor`.
MAMBASDK_SIMD void differentiate_points(Points<4>& p, Index n, const Dots& dot, const float* mask, const Map& x,
                                        float scale) {
  for (Index i = 0; i < n; i += kLanes) {
    const AxisSlopes u = find_slopes(load(p.at[0] + i), static_cast<float>(x.size[2]));
    const AxisSlopes v = find_slopes(load(p.at[1] + i), static_cast<float>(x.size[1]));
    vf rows[2], slopes[2];  // of both elements of a row
    for (int k = 0; k < 2; ++k) {
      const vf left = load(dot[2 * k] + i), right = load(dot[2 * k + 1] + i);
      rows[k] = u.taps.weight[0] * left + u.taps.weight[1] * right;
      slopes[k] = u.slope[0] * left + u.slope[1] * right;
    }
    const vf change = load(mask + i) * scale;
    const vf du = v.taps.weight[0] * slopes[0] + v.taps.weight[1] * slopes[1];
    const vf dv = v.slope[0] * rows[0] + v.slope[1] * rows[1];
    const vf dm = v.taps.weight[0] * rows[0] + v.taps.weight[1] * rows[1];
    // Elements that a point outside does not read may be anything.
    const vi is_read = load(p.is_read + i) != zero();
    store(p.at[0] + i, select(is_read, change * du, zero()));
    store(p.at[1] + i, select(is_read, change * dv, zero()));
    store(p.factor + i, select(is_read, dm, zero()));
  }
}

template <class T>
void differentiate_offsets(const DeformableGradientArgs& d, const Parallel& parallel) {
  const DeformableArgs& a = d.forward;
  const Index taps = a.kernel[0] * a.kernel[1], channels = a.x.channels, depth = channels / a.groups;
  const Index together = kPoints / taps < a.groups ? kPoints / taps : a.groups;
  const Index work = taps * (channels + 24 * a.groups) * 4;
  parallel(a.x.batch * a.size[0] * a.size[1], work < 32768 ? 32768 / work : 1, [&](Index begin, Index end) {
    Points<4> p;
    alignas(64) Dots dot;
    alignas(64) float mask[kPoints];
    for (Index i = begin; i < end; ++i) {
      const Index w = i % a.size[1], h = i / a.size[1] % a.size[0], b = i / a.size[1] / a.size[0];
      const T* row = entries_at<T>(a, b, h, w);
      const T* x = static_cast<const T*>(a.x.data) + b * a.x.batch_stride;
      const T* grad = grad_at<T>(d, b, h, w);
      T* out = static_cast<T*>(d.grad_offset_mask) + i * d.entries;
      for (Index g = 0; g < a.groups; g += together) {
        const Index groups = a.groups - g < together ? a.groups - g : together;
        Index n = 0;
        for (Index k = 0; k < groups; ++k) n = read_taps(a, row, g + k, h, w, p, n);
        clear_rest(p, n);
        for (Index k = 0; k < n; k += kLanes) {  // a point is read whatever its mask
          store(mask + k, load(p.factor + k));
          store(p.factor + k, set1(1.0f));
        }
        find_elements<2, 2>(p, n, a.x, Rule{});
        for (Index k = 0; k < groups; ++k)
          dot_points(p, k * taps, taps, x + (g + k) * depth, grad + (g + k) * depth, depth, dot);
        differentiate_points(p, n, dot, mask, a.x, static_cast<float>(a.offset_scale));
        for (Index k = 0, j = 0; k < groups; ++k) {
          T* entry = out + (g + k) * 3 * taps;
          for (Index t = 0; t < taps; ++t, ++j) {
            entry[2 * t] = from_float<T>::cast(p.at[0][j]);
            entry[2 * t + 1] = from_float<T>::cast(p.at[1][j]);
            entry[2 * taps + t] = from_float<T>::cast(p.factor[j]);
          }
        }
      }
      for (Index e = a.groups * 3 * taps; e < d.entries; ++e) out[e] = from_float<T>::cast(0.0f);
    }
  });
}

// n channels of grad, with the weights of a point, to the elements that it reads.
template <class T>
MAMBASDK_SIMD void add_point(const Points<4>& p, Index i, const T* grad, Index n, float* sums) {
  if (p.is_read[i] == 0.0f) return;
  for_lanes(n, [&](Index c, int lanes) __attribute__((always_inline)) {
    const vf g = load_n(grad + c, lanes);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      float* to = sums + p.offset[k][i] + c;
      store_n(to, fma(set1(p.weight[k][i]), g, load_n(static_cast<const float*>(to), lanes)), lanes);
    }
  });
}

template <class T>
void differentiate_x(const DeformableGradientArgs& d, const Parallel& parallel) {
  const DeformableArgs& a = d.forward;
  const Index taps = a.kernel[0] * a.kernel[1], channels = a.x.channels, depth = channels / a.groups;
  const Index width = a.x.batch * a.groups < kFewTasks && depth > kChannelBlock ? kChannelBlock : depth;
  const Index blocks = depth == 0 ? 0 : (depth + width - 1) / width;
  const Index places = a.size[0] * a.size[1], together = kPoints / taps, pixels = a.x.size[1] * a.x.size[2];
  Map to = a.x;  // the same of `sums`
  to.stride[1] = a.x.size[2] * channels;
  to.stride[2] = channels;
  parallel(a.x.batch * a.groups * blocks, 1, [&](Index begin, Index end) {
    Points<4> p;
    for (Index i = begin; i < end; ++i) {
      const Index first = i % blocks * width, g = i / blocks % a.groups, b = i / blocks / a.groups;
      const Index n = depth - first < width ? depth - first : width, channel = g * depth + first;
      float* sums = d.sums + b * pixels * channels + channel;
      for (Index pixel = 0; pixel < pixels; ++pixel)
        for_lanes(n, [&](Index c, int lanes)
                         __attribute__((always_inline)) { store_n(sums + pixel * channels + c, zero(), lanes); });
      for (Index place = 0; place < places; place += together) {
        const Index count = places - place < together ? places - place : together;
        Index points = 0;
        for (Index k = place; k < place + count; ++k) {
          const Index h = k / a.size[1], w = k % a.size[1];
          points = read_taps(a, entries_at<T>(a, b, h, w), g, h, w, p, points);
        }
        clear_rest(p, points);
        find_elements<2, 2>(p, points, to, Rule{});
        for (Index k = 0, j = 0; k < count; ++k) {
          const T* grad = grad_at<T>(d, b, (place + k) / a.size[1], (place + k) % a.size[1]) + channel;
          for (Index t = 0; t < taps; ++t, ++j) add_point(p, j, grad, n, sums);
        }
      }
      if constexpr (!std::is_same_v<T, float>) {
        T* out = static_cast<T*>(d.grad_x) + b * pixels * channels + channel;
        for (Index pixel = 0; pixel < pixels; ++pixel) narrow(sums + pixel * channels, out + pixel * channels, n);
      }
    }
  });
}

}  // namespace

void deformable_sample_backward(const DeformableGradientArgs& d, const Parallel& parallel) {
  MAMBASDK_SHARE_AVX512(d.forward.x.type == dtype::bf16, deformable_sample_backward(d, parallel));
  with_own_type(d.forward.x.type, [&]<class T>(T) {
    differentiate_offsets<T>(d, parallel);
    differentiate_x<T>(d, parallel);
  });
}

}  // namespace mambasdk::MAMBASDK_ISA

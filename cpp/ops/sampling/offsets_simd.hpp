// The points that a deformable window samples at. For *.isa.cpp only.
#pragma once

#include "ops/sampling/taps_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

// Points n, n + 1, … are those of group g at output position (h, w), whose entries of offset_mask are `row`: tap by
// tap, width-major. Returns how many points there are then.
template <class T>
MAMBASDK_SIMD Index read_taps(const DeformableArgs& a, const T* row, Index g, Index h, Index w, Points<4>& p, Index n) {
  const Index taps = a.kernel[0] * a.kernel[1], step = a.offset_mask_stride[3];
  // Offsets are scaled with the window, about its centre.
  const Index half_h = a.dilation[0] * (a.kernel[0] - 1) / 2, half_w = a.dilation[1] * (a.kernel[1] - 1) / 2;
  const auto scale = static_cast<float>(a.offset_scale);
  const auto center_h = static_cast<float>(h * a.stride[0] - a.padding[0] + half_h);
  const auto center_w = static_cast<float>(w * a.stride[1] - a.padding[1] + half_w);
  const T *offset = row + g * 3 * taps * step, *mask = offset + 2 * taps * step;
  for (Index u = 0; u < a.kernel[1]; ++u) {
    for (Index v = 0; v < a.kernel[0]; ++v, ++n, offset += 2 * step, mask += step) {
      const float x = static_cast<float>(u * a.dilation[1] - half_w) + to_float(offset[0]);
      const float y = static_cast<float>(v * a.dilation[0] - half_h) + to_float(offset[step]);
      p.at[0][n] = center_w + x * scale;
      p.at[1][n] = center_h + y * scale;
      p.factor[n] = to_float(*mask);
    }
  }
  return n;
}

// The rest of the last vector of n points.
MAMBASDK_SIMD void clear_rest(Points<4>& p, Index n) {
  for (Index i = n; i % kLanes != 0; ++i) p.at[0][i] = p.at[1][i] = p.factor[i] = 0.0f;
}

}  // namespace
}  // namespace mambasdk::MAMBASDK_ISA

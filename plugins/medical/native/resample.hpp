// Resampling of volumes by B-splines, axis by axis.
#pragma once

#include <span>

#include "volume.hpp"

namespace mambasdk::medical {

// How volumes are resampled. order: 0 (nearest), 1 (linear) or 3 (cubic, through the samples). axis: one that has an
// order of its own, axis_order; -1: none. clip: what a cubic makes stays within the range of its channel, or, where an
// axis is apart, of its plane across that axis, as in nnU-Net.
struct Resampling {
  int order = 3;
  int axis = -1;
  int axis_order = 0;
  bool clip = true;
};

// `channels` volumes of shape `from` at the positions of shape `to`: output k of an axis from n to m samples lies at (k
// + 0.5) n / m - 0.5, beyond the edges the edge goes on. Equal to scipy.ndimage.zoom(mode="nearest", grid_mode=True):
// no smoothing before it shrinks. Sums are of doubles; the result does not depend on the threads. out: (channels, *to).
void resample(const mambasdk_context& context, std::span<const float> in, std::int64_t channels, const Shape& from,
              const Shape& to, const Resampling& how, std::span<float> out);

// The axis that nnU-Net resamples apart from the others, with an order of its own: that of the largest spacing where
// `current`, else where `target` has a ratio of largest to smallest above the threshold; -1 for none, also where two
// axes share the largest spacing.
[[nodiscard]] int separate_axis(const Spacing& current, const Spacing& target, double threshold);

// Extents after resampling from one spacing to another, rounded to the nearest, halves to even; 1 at least. Throws
// Error (invalid_argument) for spacings that are not positive and finite, or an extent past 2^31.
[[nodiscard]] Shape resampled_shape(const Shape& shape, const Spacing& current, const Spacing& target);

}  // namespace mambasdk::medical

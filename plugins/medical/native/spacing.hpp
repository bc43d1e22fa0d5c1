// What spacings say about how a volume is resampled.
#pragma once

#include "volume.hpp"

namespace mambasdk::medical {

// The axis that nnU-Net resamples apart from the others, with an order of its own: that of the largest spacing where
// `current`, else where `target` has a ratio of largest to smallest above the threshold; -1 for none, also where two
// axes share the largest spacing.
[[nodiscard]] int separate_axis(const Spacing& current, const Spacing& target, double threshold);

// Extents after resampling from one spacing to another, rounded to the nearest, halves to even; 1 at least. Throws
// Error (invalid_argument) for spacings that are not positive and finite, or an extent past 2^31.
[[nodiscard]] Shape resampled_shape(const Shape& shape, const Spacing& current, const Spacing& target);

}  // namespace mambasdk::medical

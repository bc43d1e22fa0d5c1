// Intensities as nnU-Net normalises them, and where a volume is not zero.
#pragma once

#include <optional>
#include <string_view>

#include "volume.hpp"

namespace mambasdk::medical {

enum class Scheme : std::int8_t { none, ct, zscore, zscore_masked, rescale, rgb };

// Of a channel; what `ct` takes, others ignore it.
struct Intensity {
  double mean = 0, std = 1, lower = 0, upper = 0;
};

[[nodiscard]] std::optional<Scheme> scheme_of(std::string_view name);

// A channel, in place. ct: clipped to [lower, upper], less mean, by std. zscore: less its mean, by its deviation;
// masked: of the voxels whose mask is not 0, and the others stay as they are. rescale: to [0, 1]. rgb: by 255.
// Deviations below 1e-8 count as that. mask: empty, or as many as values.
void normalise(const mambasdk_context& context, std::span<float> values, Scheme scheme, const Intensity& intensity,
               std::span<const std::uint8_t> mask);

// 1 where any of `channels` volumes is not zero (*shape).
[[nodiscard]] std::vector<std::uint8_t> nonzero_mask(const mambasdk_context& context, std::span<const float> values,
                                                     std::int64_t channels, const Shape& shape);

// Sets what no path of zeros joins with the outside, over faces of voxels, to 1: scipy.ndimage.binary_fill_holes.
void fill_holes(std::vector<std::uint8_t>& mask, const Shape& shape);

struct Box {
  Shape begin{}, end{};
  [[nodiscard]] Shape shape() const { return {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]}; }
};

// Around the ones of a mask; all of it where there is none.
[[nodiscard]] Box box_of(std::span<const std::uint8_t> mask, const Shape& shape);

}  // namespace mambasdk::medical

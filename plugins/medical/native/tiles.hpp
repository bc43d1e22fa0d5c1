// The tiles of a sliding window.
#pragma once

#include "volume.hpp"

namespace mambasdk::medical {

// Where tiles begin along an axis of `size` samples that is no shorter than `tile`: as few as lie at most step * tile
// apart, evenly spread, rounded to the nearest, halves to even (nnU-Net's compute_steps_for_sliding_window). Throws
// Error (invalid_argument) for a tile that does not fit, or a step outside (0, 1] or of less than a sample.
[[nodiscard]] std::vector<std::int64_t> tile_starts(std::int64_t size, std::int64_t tile, double step);

// How much a voxel of a tile counts (*tile): a Gaussian around tile / 2 whose deviation is sigma_scale of each extent,
// cut off after four deviations, its peak 1; where that is 0, the smallest of the others.
[[nodiscard]] std::vector<float> gaussian_map(const Shape& tile, double sigma_scale);

inline constexpr double kSigmaScale = 1.0 / 8;

}  // namespace mambasdk::medical

// The steps of the pipeline as operations, for those who train: data are prepared by what prepares them in a package.
// Registered by plugin.cpp.
#pragma once

#include "mambasdk/plugin.hpp"

namespace mambasdk::medical {

struct VolumeResample {
  static constexpr std::string_view signature =
      "volume_resample(x: f32[C,D,H,W], depth: int, height: int, width: int, order: int = 3, axis: int = -1, "
      "axis_order: int = 0, clip: bool = false) -> (y: f32[C,depth,height,width])";
  static constexpr std::string_view doc =
      "Volumes at depth x height x width positions by B-splines of order 0, 1 or 3, as "
      "scipy.ndimage.zoom(mode=\"nearest\", grid_mode=True); axis (-1: none) has an order of its own, axis_order. "
      "clip: "
      "a cubic stays in the range of its channel, or, with an axis, of its plane across that.";
  static void check(const plugin::CallOf<VolumeResample>& call);
  static void reference(const plugin::CallOf<VolumeResample>& call);
};

struct VolumeNormalise {
  static constexpr std::string_view signature =
      "volume_normalise(x: f32[D,H,W], mask: u8[D,H,W]?, scheme: int, mean: float = 0, std: float = 1, lower: float = "
      "0, "
      "upper: float = 0) -> (y: f32[D,H,W])";
  static constexpr std::string_view doc =
      "Intensities of a channel: scheme 0 leaves them, 1 is CT's (clipped to lower and upper, less mean, by std), 2 "
      "z-score, 3 z-score of the voxels whose mask is not 0, 4 to [0, 1], 5 by 255.";
  static void reference(const plugin::CallOf<VolumeNormalise>& call);
};

struct VolumeNonzero {
  static constexpr std::string_view signature =
      "volume_nonzero(x: f32[C,D,H,W], fill: bool = true) -> (mask: u8[D,H,W], box: i64[3,2])";
  static constexpr std::string_view doc =
      "Where any channel is not zero, with fill also what that encloses; and the begin and end of the box around it, "
      "all "
      "of the volume where there is nothing.";
  static void reference(const plugin::CallOf<VolumeNonzero>& call);
};

struct ResampledGrid {
  static constexpr std::string_view signature =
      "resampled_grid(shape: i64[3], current: f64[3], target: f64[3], threshold: float = 3) -> (size: i64[3], axis: "
      "i64[1])";
  static constexpr std::string_view doc =
      "The extents of a volume after resampling from one spacing to another, and the axis that is resampled apart: "
      "that "
      "of the largest spacing where the largest is more than threshold times the smallest; -1: none.";
  static void reference(const plugin::CallOf<ResampledGrid>& call);
};

struct TileStarts {
  static constexpr std::string_view signature =
      "tile_starts(size: int, tile: int, step: float = 0.5) -> (starts: i64[size])";
  static constexpr std::string_view doc =
      "Where tiles of a sliding window begin along an axis, at most step of a tile apart; -1 behind the last.";
  static void reference(const plugin::CallOf<TileStarts>& call);
};

struct GaussianMap {
  static constexpr std::string_view signature =
      "gaussian_map(depth: int, height: int, width: int, sigma_scale: float = 0.125) -> (weights: "
      "f32[depth,height,width])";
  static constexpr std::string_view doc =
      "How much a voxel of a tile counts where tiles overlap: a Gaussian of deviation sigma_scale of each extent, cut "
      "off "
      "after four, its peak 1, zeros replaced by the smallest other weight.";
  static void reference(const plugin::CallOf<GaussianMap>& call);
};

}  // namespace mambasdk::medical

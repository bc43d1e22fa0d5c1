// Processor kind `medical_image`: the files of a case to the volume that a model sees, as nnU-Net prepares it.
#pragma once

#include <optional>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "nifti.hpp"
#include "normalise.hpp"
#include "resample.hpp"

namespace mambasdk::medical {

// Options, with their defaults; an empty list is the default:
//   channels       1             files of a case; a PNG with colours has three channels by itself
//   normalization  ["zscore"]    by channel, or one for all: ct, zscore, zscore_masked, none, rescale, rgb
//   mean, std, lower, upper      by channel, or one for all: what ct takes
//   spacing        []            in mm by axis (depth, height, width) after `transpose`; two numbers: of slices, whose
//                                depth keeps its own; none: as it is
//   transpose      [0, 1, 2]     axes of the file in the order in which the model sees them
//   crop           true          to the box of what is not zero
//   order          3             of resampling: 0, 1 or 3
//   axis_order     0             of it along an axis that is much coarser than the others
//   anisotropy     3             how much coarser that is
//   max_voxels     2^29          of all channels, as they are and after resampling
// Takes `image`, and `image.1`, `image.2`, … of further channels: u8 (n), files of NIfTI-1 (.nii, .nii.gz) or PNG, on
// one grid. Or f32 (C, D, H, W) or (C, H, W), with `image.spacing` f64 (3), (999, 1, 1) by default, as PNG has it.
// Emits volume f32 (C, D, H, W): transposed, cropped, normalised, resampled; and for the way back volume.full_shape i64
// (3), volume.crop i64 (3, 2), begin and end, volume.spacing and volume.target_spacing f64 (3), all of the transposed
// axes, volume.axis i64 (1), to be resampled apart on the way back, or -1, volume.axis_order i64 (1), volume.transpose
// i64 (3), and volume.header u8 (348) of the NIfTI file, (0) of other inputs.
class MedicalImage {
 public:
  static constexpr std::string_view kind = "medical_image";
  static constexpr std::string_view doc = "The files of a case, NIfTI or PNG, to the volume that a segmenter sees.";
  MedicalImage(std::string_view config, std::string_view directory);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  // A case as it came: channels on one grid.
  struct Case {
    Volume volume;
    Spacing spacing{};
    std::vector<std::uint8_t> header;
  };
  [[nodiscard]] Case read(const plugin::Inputs& inputs) const;
  void add_file(Case& found, const TensorView& input, const std::string& name) const;
  [[nodiscard]] Case read_array(const TensorView& input, const plugin::Inputs& inputs, const std::string& slot) const;

  std::int64_t channels_;
  std::vector<Scheme> schemes_;
  std::vector<Intensity> intensities_;
  std::vector<double> spacing_;
  std::array<std::size_t, 3> transpose_{};
  bool crop_;
  Resampling how_;
  double anisotropy_;
  std::int64_t max_voxels_;
};

}  // namespace mambasdk::medical

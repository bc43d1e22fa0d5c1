// Processor kind `image`: a PNG or JPEG file, or decoded pixels, to the normalised tensor of a model.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "resize.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   size        224      height and width of the output, one integer or [height, width]
//   resize      "shortest": the shorter side becomes size / crop_pct, then the centre is cut out;
//               "exact": both sides are stretched to size / crop_pct, then the centre is cut out; "none": as it is;
//               "letterbox": as large as fits into size with the aspect kept, centred, with borders of `fill`
//   crop_pct    1.0      1 with "letterbox"
//   fill        114      sample (0 to 255) of the borders of "letterbox"
//   interpolation "bicubic" or "bilinear", both antialiased
//   mean, std   [0, 0, 0], [1, 1, 1]   of samples from 0 to 1: (x - mean) / std
//   layout      "channels_first" (1, 3, H, W) or "channels_last" (1, H, W, 3)
//   output      "image"  name of the tensor
//   max_pixels  67108864 larger images are refused before they are decoded
// Takes u8 (n), a file, or u8 (H, W, 3). Emits `output` f32; image_size i64 (2), height and width of the upright
// original; image_transform f64 (4), scale_x, scale_y, offset_x, offset_y: original = scale * output + offset.
class ImageProcessor {
 public:
  static constexpr std::string_view kind = "image";
  static constexpr std::string_view doc =
      "PNG or JPEG bytes, or u8 (H, W, 3), to a resized, cropped and normalised f32 image.";
  static constexpr std::string_view options[] = {"size", "resize", "crop_pct", "fill",   "interpolation",
                                                 "mean", "std",    "layout",   "output", "max_pixels"};
  explicit ImageProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  [[nodiscard]] Image read(const plugin::Inputs& inputs) const;

  std::vector<std::int64_t> size_;
  std::string resize_;
  double crop_pct_;
  std::int64_t fill_;
  Filter filter_;
  std::vector<double> mean_;
  std::vector<double> std_;
  bool channels_first_;
  std::string output_;
  std::int64_t max_pixels_;
};

}  // namespace mambasdk::vision

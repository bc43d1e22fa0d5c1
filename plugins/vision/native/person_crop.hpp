// Processor kind `person_crop`: an image and the boxes of the people in it to a batch of crops, for top-down pose.
#pragma once

#include "affine.hpp"
#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   size        [256, 192]  height and width of a crop, one integer or two
//   padding     1.25        of a box, about its centre, before it is lengthened to the aspect of a crop
//   mean, std   [0, 0, 0], [1, 1, 1]   of samples from 0 to 1: (x - mean) / std
//   output      "image"     name of the tensor
//   max_people  1000        more boxes are refused
//   max_pixels  67108864    larger images are refused before they are decoded
// Takes u8 (n), a PNG or JPEG file, or u8 (H, W, 3), named as its slot, and beside it (for the slot `image`)
//   image.boxes       f32 (n, 4): x1, y1, x2, y2 in the image; without them the whole image is the person
//   image.box_scores  f32 (n), by which the people's scores are multiplied
//   image.affines     f64 (n, 6) instead of boxes: x = a[0] u + a[1] v + a[2], y = a[3] u + a[4] v + a[5] of the image
//                     for column u and row v of the crop
// Emits `output` f32 (n, 3, H, W), bilinear samples, zeros before the normalisation outside the image; affines f64
// (n, 6); boxes f32 (n, 4), with affines those of the crops; box_scores f32 (n), 1 where none are given; image_size
// i64 (2), height and width of the upright image.
class PersonCrop {
 public:
  static constexpr std::string_view kind = "person_crop";
  static constexpr std::string_view doc = "An image and the boxes of people to normalised f32 crops of one size.";
  static constexpr std::string_view options[] = {"size",   "padding",    "mean",      "std",
                                                 "output", "max_people", "max_pixels"};
  explicit PersonCrop(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  std::vector<std::int64_t> size_;
  double padding_;
  std::array<double, 3> scale_;  // from samples of 0 to 255 to what the model takes
  std::array<double, 3> shift_;
  std::string output_;
  std::int64_t max_people_;
  std::int64_t max_pixels_;
};

}  // namespace mambasdk::vision

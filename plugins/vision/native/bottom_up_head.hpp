// Head kind `bottom_up_pose`: heat maps and displacements of a whole image to the keypoints of its people, as DEKR
// decodes them (arXiv 2104.02300).
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "people.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   names             []     of the keypoints, by index
//   skeleton          []     pairs of keypoints that a line joins, repeated in the result for who draws it
//   stride            4      pixels of the model's image per pixel of a heat map
//   center_threshold  0.01   a person's centre is above it, and the largest of the 5 x 5 pixels about it
//   nms_distance      0.05   keypoints of two people are near when they are closer than this share of the better
//                            person's diagonal; where more than a third of them are, the worse person goes
//   max_people        30
//   heatmaps, displacements  names of the model's outputs
// Takes heat maps f32 (1, K + 1, h, w), of the keypoints and of the centres; displacements f32 (1, 2 K, h, w), x and y
// of each keypoint from a pixel, in pixels of the map; affines f64 (1, 6) of the processor `person_crop`, without which
// keypoints stay in pixels of the model's image. A run may override center_threshold, nms_distance and max_people.
// A keypoint's score is its heat map's value there, bilinear, times the centre's; a person's score their mean.
// Emits what `pose_estimation` does, best first; boxes are those about the keypoints.
class BottomUpPose {
 public:
  static constexpr std::string_view kind = "bottom_up_pose";
  static constexpr std::string_view doc = "Heat maps and displacements of an image to the keypoints of its people.";
  static constexpr std::string_view options[] = {"names",        "skeleton",   "stride",   "center_threshold",
                                                 "nms_distance", "max_people", "heatmaps", "displacements"};
  explicit BottomUpPose(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  KeypointSet set_;
  double stride_;
  double center_threshold_;
  double nms_distance_;
  std::int64_t max_people_;
  std::string heatmaps_;
  std::string displacements_;
};

}  // namespace mambasdk::vision

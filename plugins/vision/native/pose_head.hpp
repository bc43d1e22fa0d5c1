// Head kind `pose_estimation`: heat maps of crops of people to keypoints in the original image.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "people.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   names               []     of the keypoints, by index
//   skeleton            []     pairs of keypoints that a line joins, repeated in the result for who draws it
//   flip_test           false  run the model on the mirrored crops too and average the heat maps
//   flip_pairs          []     pairs of keypoints that change places in a mirrored image
//   stride              4      pixels of a crop per pixel of a heat map
//   keypoint_threshold  0.2    keypoints above it make a person's score, their mean times the score of the box
//   input, output       "image", "heatmaps"  names of the model's input and output
// Takes the model's heat maps f32 (n, K, h, w) and what the processor `person_crop` made. By itself, without a model,
// it takes heat maps, `heatmaps_flipped` of the mirrored crops where they are to be averaged, and of the processor's
// results affines f64 (n, 6), without which keypoints stay in pixels of the crop, boxes f32 (n, 4) and box_scores f32
// (n). A run may override flip_test and keypoint_threshold. Emits json {"people": [{"score", "box": [x1, y1, x2, y2],
// "keypoints": [[x, y, score]]}], "names": [], "skeleton": [[a, b]]}, in the order of the boxes, and keypoints f32 (n,
// K, 3), scores f32 (n), boxes f32 (n, 4).
class PoseEstimation {
 public:
  static constexpr std::string_view kind = "pose_estimation";
  static constexpr std::string_view doc = "Heat maps of crops to the keypoints of each person in the original image.";
  static constexpr std::string_view options[] = {"names",  "skeleton",           "flip_test", "flip_pairs",
                                                 "stride", "keypoint_threshold", "input",     "output"};
  explicit PoseEstimation(const plugin::Config& config);
  void attach(plugin::Model& model);
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  void decode(const TensorView& maps, const TensorView* mirrored, const plugin::Inputs& inputs,
              plugin::Emitter& emit) const;

  KeypointSet set_;
  bool flip_test_;
  std::vector<std::array<std::int64_t, 2>> flip_pairs_;
  double stride_;
  double keypoint_threshold_;
  std::string input_;
  std::string output_;
};

}  // namespace mambasdk::vision

// Head kind `object_detection`: boxes and scores of a model to the objects of the original image.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"

namespace mambasdk::vision {

// Options, with their defaults:
//   box_format      "xyxy", "xywh" or "cxcywh"
//   normalized      false; true: boxes are fractions of the model's image, whose size is input_size
//   input_size      224     height and width of the model's image, one integer or two; used with normalized
//   activation      "none", "sigmoid" or "softmax", of the scores
//   background      -1      the class that is no object, never reported
//   score_threshold 0.25
//   iou_threshold   0.45    suppression within a class
//   max_detections  300
//   labels          []      names by class
//   boxes, scores, classes  names of the model's outputs
// Takes boxes f32 (N, 4) or (1, N, 4); scores f32 (N, C) or (1, N, C), or (N) or (1, N) with classes i64 or i32 of the
// same shape; image_size and image_transform of the processor `image` where it ran, by which boxes go back to the
// original and are clipped to it. A run may override score_threshold, iou_threshold and max_detections.
// Emits json {"detections": [{"box": [x1, y1, x2, y2], "label", "index", "score"}]}, best first, and boxes f32 (n, 4),
// scores f32 (n), classes i64 (n).
class ObjectDetection {
 public:
  static constexpr std::string_view kind = "object_detection";
  static constexpr std::string_view doc = "Boxes and scores to labelled boxes of the original image, after NMS.";
  static constexpr std::string_view options[] = {"box_format", "normalized",      "input_size",    "activation",
                                                 "background", "score_threshold", "iou_threshold", "max_detections",
                                                 "labels",     "boxes",           "scores",        "classes"};
  explicit ObjectDetection(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  struct Candidates {
    std::vector<float> boxes;  // (n, 4), x1 y1 x2 y2 in the original image
    std::vector<float> scores;
    std::vector<std::int64_t> classes;
  };
  [[nodiscard]] Candidates candidates(const plugin::Inputs& inputs, double score_threshold) const;

  std::string box_format_;
  bool normalized_;
  std::vector<std::int64_t> input_size_;
  std::string activation_;
  std::int64_t background_;
  double score_threshold_;
  double iou_threshold_;
  std::int64_t max_detections_;
  std::vector<std::string> labels_;
  std::string boxes_, scores_, classes_;
};

}  // namespace mambasdk::vision

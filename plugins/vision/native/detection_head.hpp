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
//   max_candidates  30000   boxes with a class, the best by score, that suppression sees
//   multi_label     true    a box may be reported for every class above the threshold; false: for its best class alone
//   agnostic        false   true: suppression between classes too
//   only_classes    []      the classes to report; empty: all
//   labels          []      names by class
//   boxes, scores, classes  names of the model's outputs
// Takes boxes f32 (N, 4) or (1, N, 4); scores f32 (N, C) or (1, N, C), or (N) or (1, N) with classes i64 or i32 of the
// same shape; image_size and image_transform of the processor `image` where it ran, by which boxes go back to the
// original and, after suppression, are clipped to it. A run may override the options from score_threshold to
// only_classes. Emits json {"detections": [{"box": [x1, y1, x2, y2], "label", "index", "score"}]}, best first, and
// boxes f32 (n, 4), scores f32 (n), classes i64 (n).
class ObjectDetection {
 public:
  static constexpr std::string_view kind = "object_detection";
  static constexpr std::string_view doc = "Boxes and scores to labelled boxes of the original image, after NMS.";
  static constexpr std::string_view options[] = {"box_format",     "normalized",      "input_size",    "activation",
                                                 "background",     "score_threshold", "iou_threshold", "max_detections",
                                                 "max_candidates", "multi_label",     "agnostic",      "only_classes",
                                                 "labels",         "boxes",           "scores",        "classes"};
  explicit ObjectDetection(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  // What a run may ask for.
  struct Limits {
    double score_threshold = 0.25;
    double iou_threshold = 0.45;
    std::int64_t max_detections = 300;
    std::int64_t max_candidates = 30000;
    bool multi_label = true;
    bool agnostic = false;
    std::vector<std::int64_t> only_classes;  // sorted

    // Those of `config`, the others as they are in `otherwise`.
    Limits(const plugin::Config& config, const Limits& otherwise);
    Limits() = default;
    [[nodiscard]] bool reports(std::int64_t id) const;
  };
  struct Candidates {
    std::vector<float> boxes;  // (n, 4), x1 y1 x2 y2 in the original image, not clipped
    std::vector<float> scores;
    std::vector<std::int64_t> classes;
  };
  [[nodiscard]] Candidates candidates(const plugin::Inputs& inputs, const Limits& limits) const;
  // The best `most` of them in their order; equal scores by index.
  static void keep_best(Candidates& found, std::size_t most);

  std::string box_format_;
  bool normalized_;
  std::vector<std::int64_t> input_size_;
  std::string activation_;
  std::int64_t background_;
  Limits limits_;
  std::vector<std::string> labels_;
  std::string boxes_, scores_, classes_;
};

}  // namespace mambasdk::vision

// Processor kind `detections`, head kinds `tracker` and `motion_tracker`.
#pragma once

#include <optional>

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "tracker.hpp"

namespace mambasdk::tracking {

// Options, with their defaults: box_format ("xyxy" or "xywh", of arrays), output ("detections"), max_frames (1000000,
// of a text), max_detections (1000, of a frame), model_input (none). Takes f32 or f64 (n, 4), (n, 5) or (n, 6), one
// frame: box, score (1), class (0); or u8 (bytes), a whole sequence as MOTChallenge text. Emits `output` f32 (n, 6):
// x1, y1, x2, y2, score, class; frames i64 (n), each detection's frame from 0; frame_count i64 (1), the frames that
// this input covers. Boxes that are empty or, in arrays, not finite are left out. model_input: also emit f32 (0, 1, 4)
// under this name, which the manifests of older packages ask for; nothing needs it.
class DetectionsProcessor {
 public:
  static constexpr std::string_view kind = "detections";
  static constexpr std::string_view doc = "Boxes with scores of a frame, or MOTChallenge text, to f32 (n, 6).";
  static constexpr std::string_view options[] = {"box_format", "output", "max_frames", "max_detections", "model_input"};
  explicit DetectionsProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  bool corners_;
  std::string output_;
  std::int64_t max_frames_;
  std::int64_t max_detections_;
  std::string model_input_;
};

// Options: those of TrackerOptions by name; input ("detections"); motion: "kalman" (default), "none", or "model", the
// package's model, for which there are image_size ([width, height] in pixels, also an option of a run) and min_history.
// Takes `input` f32 or f64 (n, 5 or 6), of a processor or, where none makes it, of the model, which then runs once; and
// frames and frame_count where there are any (else all is one frame). Motion "model" runs the model frame by frame.
// State is kept over runs until reset; a run that fails leaves it. Emits json {"tracks": [{"frame", "id", "box": [x1,
// y1, x2, y2], "score", "class"}]}, frames from 1 since the reset; and ids i64 (m), boxes f32 (m, 4), scores f32 (m),
// frames i64 (m).
class TrackerHead {
 public:
  static constexpr std::string_view kind = "tracker";
  static constexpr std::string_view doc = "Detections of frame after frame to tracks, by IoU and a Kalman filter.";
  TrackerHead(std::string_view config, std::string_view) : TrackerHead(config, kind, "kalman") {}
  void attach(plugin::Model& model);
  void run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);
  void reset() {
    if (state_.tracker) state_.tracker->reset();
  }

 protected:
  TrackerHead(std::string_view config, std::string_view where, std::string_view motion);

 private:
  // What runs change.
  struct State {
    std::optional<Tracker> tracker;    // none: with motion "model", before there is one
    double width = 0.0, height = 0.0;  // of the image: of the options, or of the last run that gave one; 0: unknown
  };

  void take_image_size(State& state, const plugin::Config& config) const;

  std::string where_;
  std::string input_;
  TrackerOptions options_;
  bool uses_model_ = false;
  std::optional<std::int64_t> min_history_;
  std::shared_ptr<DeltaModelOptions> for_model_ = std::make_shared<DeltaModelOptions>();
  State state_;
};

// The same for packages of motion predictors: motion is "model" by default.
class MotionTrackerHead : public TrackerHead {
 public:
  static constexpr std::string_view kind = "motion_tracker";
  static constexpr std::string_view doc = "Detections of frame after frame to tracks, by IoU and the package's model.";
  MotionTrackerHead(std::string_view config, std::string_view) : TrackerHead(config, kind, "model") {}
};

}  // namespace mambasdk::tracking

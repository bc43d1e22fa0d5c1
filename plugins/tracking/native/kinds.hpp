// Processor kind `detections` and head kind `tracker`.
#pragma once

#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "tracker.hpp"

namespace mambasdk::tracking {

// Options, with their defaults: box_format ("xyxy" or "xywh", of arrays), output ("detections"), max_frames (1000000,
// of a text), max_detections (1000, of a frame). Takes f32 (n, 4), (n, 5) or (n, 6), one frame: box, score (1), class
// (0); or u8 (bytes), a whole sequence as MOTChallenge text. Emits `output` f32 (n, 6): x1, y1, x2, y2, score, class;
// frames i64 (n), each detection's frame from 0; frame_count i64 (1), the frames that this input covers. Boxes that are
// empty or not finite are left out.
class DetectionsProcessor {
 public:
  static constexpr std::string_view kind = "detections";
  static constexpr std::string_view doc = "Boxes with scores of a frame, or MOTChallenge text, to f32 (n, 6).";
  static constexpr std::string_view options[] = {"box_format", "output", "max_frames", "max_detections"};
  explicit DetectionsProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  bool corners_;
  std::string output_;
  std::int64_t max_frames_;
  std::int64_t max_detections_;
};

// Options: those of TrackerOptions by name, and input ("detections"). Takes `input` f32 (n, 5 or 6) as the processor
// makes it, and frames and frame_count where there are any (else all is one frame). State is kept over runs until
// reset. Emits json {"tracks": [{"frame", "id", "box": [x1, y1, x2, y2], "score", "class"}]}, frames from 1 since the
// reset; and ids i64 (m), boxes f32 (m, 4), scores f32 (m), frames i64 (m).
class TrackerHead {
 public:
  static constexpr std::string_view kind = "tracker";
  static constexpr std::string_view doc = "Detections of frame after frame to tracks, by IoU and a Kalman filter.";
  static constexpr std::string_view options[] = {"input",      "score_threshold", "new_track_score", "iou_first",
                                                 "iou_second", "max_age",         "min_hits",        "class_aware",
                                                 "plus_one",   "motion",          "max_tracks"};
  explicit TrackerHead(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);
  void reset() { tracker_.reset(); }

 private:
  std::string input_;
  Tracker tracker_;
};

}  // namespace mambasdk::tracking

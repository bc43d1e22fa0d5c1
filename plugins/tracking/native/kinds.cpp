#include "kinds.hpp"

#include <algorithm>
#include <cmath>

namespace mambasdk::tracking {

namespace {

using plugin::invalid;

// f32 (n, least to 6), or the same behind a batch of one: columns of a row.
std::size_t columns_of(const TensorView& tensor, const char* what, std::int64_t least) {
  auto shape = tensor.shape();
  if (shape.size() == 3 && shape[0] == 1) shape = shape.subspan(1);
  if (shape.size() != 2 || shape[1] < least || shape[1] > 6) {
    invalid(std::string(what) + ": expected f32 (n, " + std::to_string(least) +
            " to 6), a box, a score and a class by row; got " + plugin::to_text(tensor.shape()));
  }
  return static_cast<std::size_t>(shape[1]);
}

Detection detection_of(const float* row, std::size_t columns, bool corners) {
  const double x2 = corners ? row[2] : static_cast<double>(row[0]) + row[2];
  const double y2 = corners ? row[3] : static_cast<double>(row[1]) + row[3];
  const double id = columns > 5 && std::abs(row[5]) < 1e9F ? row[5] : 0.0;
  return {{row[0], row[1], x2, y2}, columns > 4 ? row[4] : 1.0, static_cast<std::int64_t>(id)};
}

TrackerOptions tracker_options(const plugin::Config& config) {
  TrackerOptions o;
  o.score_threshold = config.number("score_threshold", o.score_threshold, -1e9, 1e9);
  o.new_track_score = config.number("new_track_score", o.new_track_score, -1e9, 1e9);
  o.iou_first = config.number("iou_first", o.iou_first, 0.0, 1.0);
  o.iou_second = config.number("iou_second", o.iou_second, 0.0, 1.0);
  o.max_age = config.integer("max_age", o.max_age, 0, 1000000);
  o.min_hits = config.integer("min_hits", o.min_hits, 1, 1000000);
  o.class_aware = config.flag("class_aware", o.class_aware);
  o.plus_one = config.flag("plus_one", o.plus_one);
  o.patching = config.flag("patching", o.patching);
  o.duplicate_iou = config.number("duplicate_iou", o.duplicate_iou, 0.0, 1.0);
  o.max_tracks = config.integer("max_tracks", o.max_tracks, 1, 100000);
  return o;
}

}  // namespace

DetectionsProcessor::DetectionsProcessor(const plugin::Config& config)
    : corners_(config.choice("box_format", {"xyxy", "xywh"}) == "xyxy"),
      output_(config.text("output", "detections")),
      max_frames_(config.integer("max_frames", 1000000, 1, 100000000)),
      max_detections_(config.integer("max_detections", 1000, 1, 100000)),
      model_input_(config.text("model_input", "")) {}

void DetectionsProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.size() != 1) {
    invalid("detections: expected one input, boxes or MOTChallenge text; got " + std::to_string(inputs.size()));
  }
  const TensorView input = inputs[0];
  std::vector<FramedDetection> found;
  std::int64_t frame_count = 1;
  if (input.get().dtype.code == 1) {  // u8
    found = read_mot(input.bytes(), max_frames_, frame_count);
  } else {
    const std::size_t columns = columns_of(input, "detections", 4);
    const auto rows = input.data<float>();  // (n, columns)
    for (std::size_t at = 0; at < rows.size(); at += columns) {
      const Detection d = detection_of(&rows[at], columns, corners_);
      if (is_usable(d)) found.push_back({0, d});
    }
  }
  std::vector<float> values;  // (n, 6)
  std::vector<std::int64_t> frames;
  std::int64_t in_frame = 0;
  for (const FramedDetection& f : found) {
    in_frame = frames.empty() || frames.back() != f.frame ? 1 : in_frame + 1;
    if (in_frame > max_detections_) {
      invalid("detections: frame " + std::to_string(f.frame + 1) + " has more than " + std::to_string(max_detections_) +
              "; raise max_detections or filter them by score first");
    }
    const Box& b = f.detection.box;
    for (const double v : {b.x1, b.y1, b.x2, b.y2, f.detection.score, static_cast<double>(f.detection.class_id)}) {
      values.push_back(static_cast<float>(v));
    }
    frames.push_back(f.frame);
  }
  const auto n = static_cast<std::int64_t>(frames.size());
  emit(output_, std::move(values), {n, 6});
  emit("frames", std::move(frames), {n});
  emit("frame_count", std::vector<std::int64_t>{frame_count}, {1});
  if (!model_input_.empty()) emit(model_input_, std::vector<float>(), {0, 1, 4});
}

TrackerHead::TrackerHead(std::string_view text, std::string_view directory, std::string_view where,
                         std::string_view motion)
    : where_(where) {
  const plugin::Config config(
      text, where,
      {"input", "score_threshold", "new_track_score", "iou_first", "iou_second", "patching", "max_age", "min_hits",
       "duplicate_iou", "class_aware", "plus_one", "max_tracks", "motion", "image_size", "min_history"});
  input_ = config.text("input", "detections");
  const std::string chosen =
      config.has("motion") ? config.choice("motion", {"kalman", "none", "model"}) : std::string(motion);
  std::unique_ptr<Motion> made;
  if (chosen == "model") {
    if (directory.empty())
      invalid(where_ + ": motion \"model\" needs a package, whose model it is; give its directory");
    model_ = std::make_unique<MotionModel>(std::string(directory));
    for_model_ = std::make_shared<DeltaModelOptions>();
    for_model_->window = model_->window();
    for_model_->scale = model_->scale();
    const std::int64_t usual = std::min(for_model_->min_history, for_model_->window + 1);
    for_model_->min_history = config.integer("min_history", usual, 2, 1000000);
    if (for_model_->min_history > for_model_->window + 1) {
      invalid(where_ + ": min_history: expected at most " + std::to_string(for_model_->window + 1) +
              ", the boxes that the model looks at, got " + std::to_string(for_model_->min_history));
    }
    MotionModel* const model = model_.get();
    made = make_model_motion([model](std::span<const float> deltas, std::int64_t tracks,
                                     std::int64_t length) { return model->run(deltas, tracks, length); },
                             for_model_);
  } else {
    made = chosen == "kalman" ? make_kalman_motion() : make_still_motion();
  }
  take_image_size(config);
  tracker_ = std::make_unique<Tracker>(tracker_options(config), std::move(made));
}

void TrackerHead::take_image_size(const plugin::Config& config) {
  if (!config.has("image_size")) return;
  const std::vector<double> size = config.numbers("image_size", {0.0, 0.0}, 1.0, 1e6);
  if (for_model_ == nullptr) return;  // only deltas need it
  for_model_->width = size[0];
  for_model_->height = size[1];
}

void TrackerHead::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (inputs.has("options")) take_image_size(plugin::Config(inputs["options"].bytes(), where_, {"image_size"}));
  if (model_ != nullptr) {
    if (for_model_->width == 0.0) {
      invalid(where_ +
              ": image_size is missing: the model's deltas are fractions of the image; give [width, height] in " +
              "pixels as an option of the head or of the run");
    }
    model_->use(inputs.context());
  }
  const TensorView tensor = inputs[input_];
  const std::size_t columns = columns_of(tensor, input_.c_str(), 5);
  const auto rows = tensor.data<float>();  // (n, columns)
  const std::size_t n = rows.size() / columns;
  std::vector<std::int64_t> frames(n, 0);
  std::int64_t frame_count = 1;
  if (inputs.has("frames")) {
    const auto given = inputs["frames"].data<std::int64_t>();
    if (given.size() != n)
      invalid(where_ + ": frames: expected one per detection, got " + std::to_string(given.size()));
    frames.assign(given.begin(), given.end());
    frame_count = n == 0 ? 0 : frames.back() + 1;
    if (!std::is_sorted(frames.begin(), frames.end()) || (n != 0 && frames.front() < 0)) {
      invalid(where_ + ": frames: expected whole numbers from 0 in order");
    }
  }
  if (inputs.has("frame_count")) {
    const auto given = inputs["frame_count"].data<std::int64_t>();
    if (given.size() != 1 || given[0] < (n == 0 ? 0 : frames.back() + 1) || given[0] > 100000000) {
      invalid(where_ + ": frame_count: expected one number, at least that of the last detection's frame");
    }
    frame_count = given[0];
  }

  nlohmann::json tracks = nlohmann::json::array();
  std::vector<std::int64_t> ids;
  std::vector<float> boxes;  // (m, 4)
  std::vector<float> scores;
  std::vector<std::int64_t> out_frames;
  std::size_t at = 0;
  std::vector<Detection> detections;
  for (std::int64_t frame = 0; frame < frame_count; ++frame) {
    if (frame % 256 == 0 && inputs.context().is_cancelled(inputs.context().user) != 0) {
      plugin::fail(MAMBASDK_ERROR_CANCELLED, where_ + ": cancelled");
    }
    detections.clear();
    for (; at < n && frames[at] == frame; ++at) {
      detections.push_back(detection_of(&rows[at * columns], columns, /*corners=*/true));
    }
    for (const TrackedBox& t : tracker_->step(detections)) {
      nlohmann::json box = nlohmann::json::array();
      for (const double v : {t.detection.box.x1, t.detection.box.y1, t.detection.box.x2, t.detection.box.y2}) {
        boxes.push_back(static_cast<float>(v));
        box.push_back(v);
      }
      tracks.push_back({{"frame", tracker_->frame()},
                        {"id", t.id},
                        {"box", box},
                        {"score", t.detection.score},
                        {"class", t.detection.class_id}});
      ids.push_back(t.id);
      scores.push_back(static_cast<float>(t.detection.score));
      out_frames.push_back(tracker_->frame());
    }
  }
  emit.json(nlohmann::json{{"tracks", tracks}}.dump());
  const auto m = static_cast<std::int64_t>(ids.size());
  emit("ids", std::move(ids), {m});
  emit("boxes", std::move(boxes), {m, 4});
  emit("scores", std::move(scores), {m});
  emit("frames", std::move(out_frames), {m});
}

}  // namespace mambasdk::tracking

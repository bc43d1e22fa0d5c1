#include "kinds.hpp"

#include <algorithm>
#include <cmath>

#include "motion_model.hpp"

namespace mambasdk::tracking {

namespace {

using plugin::invalid;

// f32 (n, least to 6), or the same behind a batch of one: columns of a row.
std::size_t columns_of(const TensorView& tensor, const char* what, std::int64_t least) {
  auto shape = tensor.shape();
  if (shape.size() == 3 && shape[0] == 1) shape = shape.subspan(1);
  if (shape.size() != 2 || shape[1] < least || shape[1] > 6) {
    invalid(std::string(what) + ": expected f32 (n, " + std::to_string(least) +
            " to 6), or f64, a box, a score and a class by row; got " + plugin::to_text(tensor.shape()));
  }
  return static_cast<std::size_t>(shape[1]);
}

Detection detection_of(std::span<const double> row, bool corners) {
  const double x2 = corners ? row[2] : row[0] + row[2];
  const double y2 = corners ? row[3] : row[1] + row[3];
  const double id = row.size() > 5 && std::abs(row[5]) < 1e9 ? row[5] : 0.0;
  return {{row[0], row[1], x2, y2}, row.size() > 4 ? row[4] : 1.0, static_cast<std::int64_t>(id)};
}

// The numbers of an array of float32 or float64.
std::vector<double> numbers_of(const TensorView& tensor) {
  if (tensor.get().dtype.code == 2 && tensor.get().dtype.bits == 64) {
    const auto values = tensor.data<double>();
    return {values.begin(), values.end()};
  }
  const auto values = tensor.data<float>();
  return {values.begin(), values.end()};
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
    const std::vector<double> rows = numbers_of(input);  // (n, columns)
    for (std::size_t at = 0; at < rows.size(); at += columns) {
      const Detection d = detection_of({&rows[at], columns}, corners_);
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

TrackerHead::TrackerHead(std::string_view text, std::string_view where, std::string_view motion) : where_(where) {
  const plugin::Config config(
      text, where,
      {"input", "score_threshold", "new_track_score", "iou_first", "iou_second", "patching", "max_age", "min_hits",
       "duplicate_iou", "class_aware", "plus_one", "max_tracks", "motion", "image_size", "min_history"});
  input_ = config.text("input", "detections");
  const std::string chosen =
      config.has("motion") ? config.choice("motion", {"kalman", "none", "model"}) : std::string(motion);
  if (config.has("min_history")) min_history_ = config.integer("min_history", 2, 2, 1000000);
  take_image_size(state_, config);
  options_ = tracker_options(config);
  uses_model_ = chosen == "model";
  if (!uses_model_) state_.tracker.emplace(options_, chosen == "kalman" ? make_kalman_motion() : make_still_motion());
}

void TrackerHead::attach(plugin::Model& given) {
  if (!uses_model_) return;
  const auto model = std::make_shared<MotionModel>(given);
  for_model_->window = model->window();
  for_model_->scale = model->scale();
  for_model_->min_history = min_history_.value_or(std::min(for_model_->min_history, for_model_->window + 1));
  if (for_model_->min_history > for_model_->window + 1) {
    invalid(where_ + ": min_history: expected at most " + std::to_string(for_model_->window + 1) +
            ", the boxes that the model looks at, got " + std::to_string(for_model_->min_history));
  }
  state_.tracker.emplace(options_,
                         make_model_motion([model](std::span<const float> deltas, std::int64_t tracks,
                                                   std::int64_t length) { return model->run(deltas, tracks, length); },
                                           for_model_));
}

void TrackerHead::take_image_size(State& state, const plugin::Config& config) const {
  if (!config.has("image_size")) return;
  const std::vector<double> size = config.numbers("image_size", {0.0, 0.0}, 1.0, 1e6);
  state.width = size[0];
  state.height = size[1];
}

void TrackerHead::run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (uses_model_ || inputs.has(input_)) return run(inputs, emit);
  run(model.run_once(inputs).inputs(), emit);
}

void TrackerHead::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  plugin::StateChange change(state_);
  if (inputs.has("options")) {
    take_image_size(*change, plugin::Config(inputs["options"].bytes(), where_, {"image_size"}));
  }
  if (!change->tracker) {
    invalid(where_ +
            ": motion \"model\" needs a package, whose model it is; use a pipeline of it, or give the head its " +
            "model");
  }
  if (uses_model_ && change->width == 0.0) {
    invalid(where_ +
            ": image_size is missing: the model's deltas are fractions of the image; give [width, height] in " +
            "pixels as an option of the head or of the run");
  }
  for_model_->width = change->width;
  for_model_->height = change->height;
  Tracker& tracker = *change->tracker;
  const TensorView tensor = inputs[input_];
  const std::size_t columns = columns_of(tensor, input_.c_str(), 5);
  const std::vector<double> rows = numbers_of(tensor);  // (n, columns)
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

  plugin::JsonWriter json;
  json.open('{').key("tracks").open('[');
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
      detections.push_back(detection_of({&rows[at * columns], columns}, /*corners=*/true));
    }
    for (const TrackedBox& t : tracker.step(detections)) {
      json.open('{').key("box").open('[');
      for (const double v : {t.detection.box.x1, t.detection.box.y1, t.detection.box.x2, t.detection.box.y2}) {
        boxes.push_back(static_cast<float>(v));
        json.number(v);
      }
      json.close(']');
      json.key("class").number(t.detection.class_id);
      json.key("frame").number(tracker.frame());
      json.key("id").number(t.id);
      json.key("score").number(t.detection.score);
      json.close('}');
      ids.push_back(t.id);
      scores.push_back(static_cast<float>(t.detection.score));
      out_frames.push_back(tracker.frame());
    }
  }
  json.close(']').close('}');
  emit.json(json.text());
  const auto m = static_cast<std::int64_t>(ids.size());
  emit("ids", std::move(ids), {m});
  emit("boxes", std::move(boxes), {m, 4});
  emit("scores", std::move(scores), {m});
  emit("frames", std::move(out_frames), {m});
  change.commit();
}

}  // namespace mambasdk::tracking

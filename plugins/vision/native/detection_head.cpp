#include "detection_head.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

#include "nms.hpp"

namespace mambasdk::vision {

namespace {

[[noreturn]] void bad_shape(const std::string& name, const char* expected, std::span<const std::int64_t> shape) {
  plugin::invalid("object_detection: " + name + ": expected " + expected + ", got " + plugin::to_text(shape));
}

// The shape without a leading batch of one, if it has more than `dims` dims.
std::span<const std::int64_t> unbatched(std::span<const std::int64_t> shape, std::size_t dims) {
  return shape.size() == dims + 1 && shape[0] == 1 ? shape.subspan(1) : shape;
}

std::vector<std::int64_t> class_ids(const TensorView& tensor) {
  if (tensor.get().dtype.bits == 32) {
    const auto ids = tensor.data<std::int32_t>();
    return {ids.begin(), ids.end()};
  }
  const auto ids = tensor.data<std::int64_t>();
  return {ids.begin(), ids.end()};
}

// Where in the original image a point of the model's image lies.
struct Transform {
  double scale_x = 1, scale_y = 1, offset_x = 0, offset_y = 0;
  std::optional<std::array<float, 2>> size;  // width and height of the original

  // The part of a box that lies in the original, all of it where its size is not known.
  [[nodiscard]] std::array<float, 4> clipped(const float* box) const {
    std::array<float, 4> out{box[0], box[1], box[2], box[3]};
    for (std::size_t k = 0; size && k < 4; ++k) out[k] = std::clamp(out[k], 0.0F, (*size)[k % 2]);
    return out;
  }
};

Transform transform_of(const plugin::Inputs& inputs) {
  Transform t;
  if (inputs.has("image_transform")) {
    const auto v = inputs["image_transform"].data<double>();
    if (v.size() != 4) bad_shape("image_transform", "(4)", inputs["image_transform"].shape());
    t.scale_x = v[0], t.scale_y = v[1], t.offset_x = v[2], t.offset_y = v[3];
  }
  if (inputs.has("image_size")) {
    const auto v = inputs["image_size"].data<std::int64_t>();
    if (v.size() != 2) bad_shape("image_size", "(2)", inputs["image_size"].shape());
    if (v[0] < 1 || v[1] < 1) {
      plugin::invalid("object_detection: image_size: expected height and width of 1 or more, got " +
                      plugin::to_text(v));
    }
    t.size = std::array{static_cast<float>(v[1]), static_cast<float>(v[0])};
  }
  return t;
}

void activate(std::vector<double>& row, const std::string& activation) {
  if (activation == "sigmoid") {
    for (double& v : row) v = 1.0 / (1.0 + std::exp(-v));
  } else if (activation == "softmax") {
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (double& v : row) sum += v = std::exp(v - largest);
    for (double& v : row) v /= sum;
  }
}

}  // namespace

ObjectDetection::ObjectDetection(const plugin::Config& config) {
  box_format_ = config.choice("box_format", {"xyxy", "xywh", "cxcywh"});
  normalized_ = config.flag("normalized", false);
  input_size_ = config.integers("input_size", {224, 224}, 1, 1 << 20);
  activation_ = config.choice("activation", {"none", "sigmoid", "softmax"});
  background_ = config.integer("background", -1, -1, INT32_MAX);
  limits_ = Limits(config, Limits());
  labels_ = config.strings("labels");
  boxes_ = config.text("boxes", "boxes");
  scores_ = config.text("scores", "scores");
  classes_ = config.text("classes", "classes");
}

ObjectDetection::Limits::Limits(const plugin::Config& config, const Limits& otherwise)
    : score_threshold(config.number("score_threshold", otherwise.score_threshold, -1e30, 1e30)),
      iou_threshold(config.number("iou_threshold", otherwise.iou_threshold, 0.0, 1.0)),
      max_detections(config.integer("max_detections", otherwise.max_detections, 1, 100000)),
      max_candidates(config.integer("max_candidates", otherwise.max_candidates, 1, 10000000)),
      multi_label(config.flag("multi_label", otherwise.multi_label)),
      agnostic(config.flag("agnostic", otherwise.agnostic)),
      only_classes(config.has("only_classes") ? config.integer_list("only_classes", 0, INT32_MAX)
                                              : otherwise.only_classes) {
  std::sort(only_classes.begin(), only_classes.end());
}

bool ObjectDetection::Limits::reports(std::int64_t id) const {
  return only_classes.empty() || std::binary_search(only_classes.begin(), only_classes.end(), id);
}

ObjectDetection::Candidates ObjectDetection::candidates(const plugin::Inputs& inputs, const Limits& limits) const {
  const Transform t = transform_of(inputs);
  const TensorView boxes_view = inputs[boxes_];
  const TensorView scores_view = inputs[scores_];
  const auto boxes_shape = unbatched(boxes_view.shape(), 2);
  if (boxes_shape.size() != 2 || boxes_shape[1] != 4) {
    bad_shape(boxes_, "f32 (N, 4) or (1, N, 4)", boxes_view.shape());
  }
  const auto boxes = boxes_view.data<float>();    // (N, 4)
  const auto scores = scores_view.data<float>();  // (N, C), or (N) with classes
  const std::size_t n = static_cast<std::size_t>(boxes_shape[0]);
  const bool given_classes = inputs.has(classes_);
  const auto scores_shape = unbatched(scores_view.shape(), given_classes ? 1 : 2);
  const std::size_t dims = given_classes ? 1 : 2;
  if (scores_shape.size() != dims || scores_shape[0] != boxes_shape[0]) {
    bad_shape(scores_, given_classes ? "f32 (N), one per box" : "f32 (N, C), a row per box", scores_view.shape());
  }
  const std::size_t columns = given_classes ? 1 : static_cast<std::size_t>(scores_shape[1]);
  std::vector<std::int64_t> given;
  if (given_classes) given = class_ids(inputs[classes_]);
  if (given_classes && given.size() != n) bad_shape(classes_, "one class per box", inputs[classes_].shape());

  Candidates out;
  const auto id_of = [&](std::size_t box, std::size_t column) {
    return given_classes ? given[box] : static_cast<std::int64_t>(column);
  };
  std::vector<double> row(columns);
  for (std::size_t i = 0; i < n && columns != 0; ++i) {
    const float* score = &scores[i * columns];
    if (activation_ == "none" && std::none_of(score, score + columns, [&](float v) {
          return static_cast<double>(v) >= limits.score_threshold;
        })) {
      continue;
    }
    row.assign(score, score + columns);
    activate(row, activation_);
    for (std::size_t c = 0; c < columns; ++c) {
      if (id_of(i, c) == background_ || !(row[c] >= limits.score_threshold)) row[c] = -HUGE_VAL;
    }
    const auto best = static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    if (row[best] == -HUGE_VAL) continue;
    double b[4];
    for (std::size_t k = 0; k < 4; ++k) {
      b[k] = static_cast<double>(boxes[i * 4 + k]);
      if (normalized_) b[k] *= static_cast<double>(input_size_[k % 2 == 0 ? 1 : 0]);
    }
    if (box_format_ == "cxcywh") b[0] -= b[2] / 2, b[1] -= b[3] / 2;
    if (box_format_ != "xyxy") b[2] += b[0], b[3] += b[1];
    const std::array<float, 4> box{
        static_cast<float>(b[0] * t.scale_x + t.offset_x), static_cast<float>(b[1] * t.scale_y + t.offset_y),
        static_cast<float>(b[2] * t.scale_x + t.offset_x), static_cast<float>(b[3] * t.scale_y + t.offset_y)};
    const std::array<float, 4> seen = t.clipped(box.data());
    const bool finite = std::all_of(box.begin(), box.end(), [](float v) { return std::isfinite(v); });
    if (!finite || !(seen[2] > seen[0] && seen[3] > seen[1])) continue;  // no number, outside the image, or empty
    for (std::size_t c = 0; c < columns; ++c) {
      if (row[c] == -HUGE_VAL || !(limits.multi_label || c == best) || !limits.reports(id_of(i, c))) continue;
      out.boxes.insert(out.boxes.end(), box.begin(), box.end());
      out.scores.push_back(static_cast<float>(row[c]));
      out.classes.push_back(id_of(i, c));
    }
  }
  keep_best(out, static_cast<std::size_t>(limits.max_candidates));
  return out;
}

void ObjectDetection::keep_best(Candidates& found, std::size_t most) {
  if (found.scores.size() <= most) return;
  std::vector<std::size_t> order(found.scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(most);
  std::nth_element(order.begin(), end, order.end(), [&](std::size_t a, std::size_t b) {
    return found.scores[a] != found.scores[b] ? found.scores[a] > found.scores[b] : a < b;
  });
  std::sort(order.begin(), end);
  Candidates best;
  for (std::size_t place = 0; place < most; ++place) {
    const std::size_t i = order[place];
    best.boxes.insert(best.boxes.end(), &found.boxes[i * 4], &found.boxes[i * 4] + 4);
    best.scores.push_back(found.scores[i]);
    best.classes.push_back(found.classes[i]);
  }
  found = std::move(best);
}

void ObjectDetection::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  Limits limits = limits_;
  if (inputs.has("options")) {
    const plugin::Config options(inputs["options"].bytes(), kind,
                                 {"score_threshold", "iou_threshold", "max_detections", "max_candidates", "multi_label",
                                  "agnostic", "only_classes"});
    limits = Limits(options, limits_);
  }
  const Candidates found = candidates(inputs, limits);
  const std::vector<std::size_t> kept = non_maximum_suppression(
      found.boxes, found.scores, limits.agnostic ? std::span<const std::int64_t>() : std::span(found.classes),
      limits.iou_threshold, static_cast<std::size_t>(limits.max_detections));

  const Transform t = transform_of(inputs);
  Candidates out;
  plugin::JsonWriter json;
  json.open('{').key("detections").open('[');
  for (const std::size_t i : kept) {
    json.open('{').key("box").open('[');
    for (const float v : t.clipped(&found.boxes[i * 4])) {
      out.boxes.push_back(v);
      json.number(static_cast<double>(v));
    }
    json.close(']');
    out.scores.push_back(found.scores[i]);
    out.classes.push_back(found.classes[i]);
    const std::int64_t id = found.classes[i];
    const bool named = id >= 0 && static_cast<std::size_t>(id) < labels_.size();
    json.key("index").number(id);
    json.key("label").string(named ? labels_[static_cast<std::size_t>(id)] : std::to_string(id));
    json.key("score").number(static_cast<double>(found.scores[i]));
    json.close('}');
  }
  json.close(']').close('}');
  emit.json(json.text());
  const auto count = static_cast<std::int64_t>(kept.size());
  emit("boxes", std::move(out.boxes), {count, 4});
  emit("scores", std::move(out.scores), {count});
  emit("classes", std::move(out.classes), {count});
}

}  // namespace mambasdk::vision

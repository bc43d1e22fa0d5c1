#include "person_crop.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "image_input.hpp"

namespace mambasdk::vision {

namespace {

constexpr double kFarthest = 1e7;               // of a coordinate, in pixels
constexpr std::int64_t kMaxValues = 1LL << 31;  // of all crops together

// What a run gives, sorted by name: `image`, `image.boxes`, …
struct Given {
  std::optional<TensorView> image, boxes, box_scores, affines;
};

Given given(const plugin::Inputs& inputs) {
  Given out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const TensorView input = inputs[i];
    const std::string_view name = input.name();
    const std::size_t dot = name.rfind('.');
    const std::string_view part = dot == std::string_view::npos ? "" : name.substr(dot + 1);
    std::optional<TensorView>* place = part == "boxes"        ? &out.boxes
                                       : part == "box_scores" ? &out.box_scores
                                       : part == "affines"    ? &out.affines
                                       : part.empty()         ? &out.image
                                                              : nullptr;
    if (place == nullptr || place->has_value()) {
      plugin::invalid("person_crop: input " + std::string(name) +
                      " is unknown; an image may have .boxes with .box_scores, or .affines, beside it");
    }
    place->emplace(input);
  }
  if (!out.image) plugin::invalid("person_crop: the image is missing");
  if (out.boxes && out.affines) plugin::invalid("person_crop: give boxes or affines, not both");
  return out;
}

[[noreturn]] void bad_shape(const char* name, const char* expected, std::span<const std::int64_t> shape) {
  plugin::invalid(std::string("person_crop: ") + name + ": expected " + expected + ", got " + plugin::to_text(shape));
}

[[noreturn]] void bad_row(const char* name, std::size_t row, const char* expected) {
  plugin::invalid("person_crop: " + std::string(name) + ": row " + std::to_string(row) + ": expected " + expected);
}

std::vector<Affine> affines_of(const TensorView& input) {
  const auto shape = input.shape();
  if (shape.size() != 2 || shape[1] != 6) bad_shape("affines", "f64 (n, 6)", shape);
  const auto values = input.data<double>();
  std::vector<Affine> out(static_cast<std::size_t>(shape[0]));
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t k = 0; k < 6; ++k) {
      out[i].m[k] = values[i * 6 + k];
      if (!(std::abs(out[i].m[k]) <= kFarthest)) bad_row("affines", i, "finite numbers of at most 1e7");
    }
  }
  return out;
}

// The rectangle about a crop's four corners.
std::array<double, 4> box_of_crop(const Affine& back, std::int64_t height, std::int64_t width) {
  std::array<double, 4> box{HUGE_VAL, HUGE_VAL, -HUGE_VAL, -HUGE_VAL};
  for (int corner = 0; corner < 4; ++corner) {
    const auto [x, y] = back(corner % 2 * static_cast<double>(width), corner / 2 * static_cast<double>(height));
    box = {std::min(box[0], x), std::min(box[1], y), std::max(box[2], x), std::max(box[3], y)};
  }
  return box;
}

std::vector<std::array<double, 4>> boxes_of(const TensorView& input) {
  const auto shape = input.shape();
  if (shape.size() != 2 || shape[1] != 4) bad_shape("boxes", "f32 (n, 4)", shape);
  const auto values = input.data<float>();
  std::vector<std::array<double, 4>> out(static_cast<std::size_t>(shape[0]));
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t k = 0; k < 4; ++k) {
      out[i][k] = values[i * 4 + k];
      if (!(std::abs(out[i][k]) <= kFarthest)) bad_row("boxes", i, "finite numbers of at most 1e7");
    }
    if (!(out[i][2] > out[i][0] && out[i][3] > out[i][1])) bad_row("boxes", i, "x1 < x2 and y1 < y2");
  }
  return out;
}

std::vector<float> scores_of(const std::optional<TensorView>& input, std::size_t people) {
  if (!input) return std::vector<float>(people, 1.0F);
  if (input->shape().size() != 1 || input->size() != people) {
    bad_shape("box_scores", "f32 (n), one per box", input->shape());
  }
  const auto values = input->data<float>();
  return {values.begin(), values.end()};
}

}  // namespace

PersonCrop::PersonCrop(const plugin::Config& config) {
  size_ = config.integers("size", {256, 192}, 1, 16384);
  padding_ = config.number("padding", 1.25, 0.01, 100.0);
  const std::vector<double> mean = config.numbers("mean", {0, 0, 0}, -1e6, 1e6);
  const std::vector<double> std = config.numbers("std", {1, 1, 1}, 1e-6, 1e6);
  for (std::size_t c = 0; c < 3; ++c) {
    scale_[c] = 1 / (255 * std[c]);
    shift_[c] = -mean[c] / std[c];
  }
  output_ = config.text("output", "image");
  max_people_ = config.integer("max_people", 1000, 1, 1 << 20);
  max_pixels_ = config.integer("max_pixels", std::int64_t{1} << 26, 1, std::int64_t{1} << 32);
}

void PersonCrop::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  const Given raw = given(inputs);
  const auto height = size_[0];
  const auto width = size_[1];
  std::vector<std::array<double, 4>> boxes;
  std::vector<Affine> backs;
  if (raw.boxes) boxes = boxes_of(*raw.boxes);
  if (raw.affines) backs = affines_of(*raw.affines);
  const Image image = read_image(*raw.image, max_pixels_, kind);
  if (!raw.boxes && !raw.affines) {
    boxes.push_back({0, 0, static_cast<double>(image.width), static_cast<double>(image.height)});
  }
  for (const auto& box : boxes) backs.push_back(crop_of_box(box, height, width, padding_));
  if (raw.affines) {
    for (const Affine& back : backs) boxes.push_back(box_of_crop(back, height, width));
  }
  const auto people = static_cast<std::int64_t>(backs.size());
  if (people > max_people_) {
    plugin::invalid("person_crop: " + std::to_string(people) + " people, expected at most " +
                    std::to_string(max_people_) + " (max_people)");
  }
  const std::int64_t values = 3 * height * width;
  if (people * values > kMaxValues) {
    plugin::invalid("person_crop: " + std::to_string(people) + " crops of this size are too many at once");
  }
  std::vector<float> scores = scores_of(raw.box_scores, backs.size());

  std::vector<float> crops(static_cast<std::size_t>(people * values));
  plugin::parallel_for(inputs.context(), people, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto own = std::span(crops).subspan(static_cast<std::size_t>(i * values), static_cast<std::size_t>(values));
      warp(image, backs[static_cast<std::size_t>(i)], height, width, scale_, shift_, own);
    }
  });
  std::vector<double> affines;
  std::vector<float> corners;
  for (const Affine& back : backs) affines.insert(affines.end(), back.m.begin(), back.m.end());
  for (const auto& box : boxes) {
    for (const double v : box) corners.push_back(static_cast<float>(v));
  }
  emit(output_, std::move(crops), {people, 3, height, width});
  emit("affines", std::move(affines), {people, 6});
  emit("boxes", std::move(corners), {people, 4});
  emit("box_scores", std::move(scores), {people});
  emit("image_size", std::vector<std::int64_t>{image.height, image.width}, {2});
}

}  // namespace mambasdk::vision

#include "pose_head.hpp"

#include <algorithm>
#include <numeric>

#include "affine.hpp"
#include "heat_maps.hpp"

namespace mambasdk::vision {

namespace {

constexpr std::string_view kFlipped = "heatmaps_flipped";

[[noreturn]] void bad_shape(std::string_view name, const std::string& expected, std::span<const std::int64_t> shape) {
  plugin::invalid("pose_estimation: " + std::string(name) + ": expected " + expected + ", got " +
                  plugin::to_text(shape));
}

// Rows of `width` values of T for n people; none where the input is not given.
template <class T>
std::span<const T> rows_of(const plugin::Inputs& inputs, std::string_view name, std::int64_t people,
                           std::int64_t width) {
  if (!inputs.has(name)) return {};
  const TensorView input = inputs[name];
  const auto shape = input.shape();
  const bool fits = width == 1 ? shape.size() == 1 : shape.size() == 2 && shape[1] == width;
  if (!fits || shape[0] != people) {
    bad_shape(name, "(" + std::to_string(people) + (width == 1 ? "" : ", " + std::to_string(width)) + ")", shape);
  }
  return input.data<T>();
}

// Rows of `width` samples with the columns in the other order.
std::vector<float> mirrored(std::span<const float> pixels, std::int64_t width) {
  std::vector<float> out(pixels.begin(), pixels.end());
  for (auto row = out.begin(); width != 0 && row != out.end(); row += width) std::reverse(row, row + width);
  return out;
}

}  // namespace

PoseEstimation::PoseEstimation(const plugin::Config& config)
    : set_(config),
      flip_test_(config.flag("flip_test", false)),
      flip_pairs_(config.pairs("flip_pairs", 0, INT32_MAX)),
      stride_(config.number("stride", 4, 0.01, 1e4)),
      keypoint_threshold_(config.number("keypoint_threshold", 0.2, -1e30, 1e30)),
      input_(config.text("input", "image")),
      output_(config.text("output", "heatmaps")) {}

void PoseEstimation::attach(plugin::Model& model) {
  const auto has = [](std::span<const mambasdk_tensor_spec> specs, const std::string& name) {
    return std::any_of(specs.begin(), specs.end(), [&](const auto& spec) { return to_cpp(spec.name) == name; });
  };
  if (!has(model.inputs(), input_)) plugin::invalid("pose_estimation: the model has no input " + input_);
  if (!has(model.outputs(), output_)) plugin::invalid("pose_estimation: the model has no output " + output_);
}

void PoseEstimation::run(plugin::Model& model, const plugin::Inputs& inputs, plugin::Emitter& emit) {
  bool flip = flip_test_;
  if (inputs.has("options")) {
    flip = plugin::Config(inputs["options"].bytes(), kind, {"flip_test", "keypoint_threshold"}).flag("flip_test", flip);
  }
  const TensorView image = inputs[input_];
  if (image.shape().size() != 4) bad_shape(input_, "f32 (n, 3, H, W)", image.shape());
  if (image.shape()[0] == 0) {  // nobody: the model is not asked
    People{.keypoints = static_cast<std::int64_t>(set_.names.size())}.emit(set_, emit);
    return;
  }
  const auto pixels = image.data<float>();
  const std::vector<std::int64_t> shape(image.shape().begin(), image.shape().end());
  const std::vector<Tensor> maps = model.run({{input_, TensorRef(pixels, shape)}}, {output_});
  if (!flip) {
    decode({output_, maps[0].get()->tensor}, nullptr, inputs, emit);
    return;
  }
  const std::vector<float> other = mirrored(pixels, shape[3]);
  const std::vector<Tensor> flipped = model.run({{input_, TensorRef(std::span(other), shape)}}, {output_});
  const TensorView view{output_, flipped[0].get()->tensor};
  decode({output_, maps[0].get()->tensor}, &view, inputs, emit);
}

void PoseEstimation::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  if (!inputs.has(kFlipped)) {
    decode(inputs[output_], nullptr, inputs, emit);
    return;
  }
  const TensorView flipped = inputs[kFlipped];
  decode(inputs[output_], &flipped, inputs, emit);
}

void PoseEstimation::decode(const TensorView& maps, const TensorView* mirrored, const plugin::Inputs& inputs,
                            plugin::Emitter& emit) const {
  double threshold = keypoint_threshold_;
  if (inputs.has("options")) {
    const plugin::Config options(inputs["options"].bytes(), kind, {"flip_test", "keypoint_threshold"});
    threshold = options.number("keypoint_threshold", threshold, -1e30, 1e30);
  }
  const auto shape = maps.shape();
  if (shape.size() != 4) bad_shape(output_, "f32 (n, K, h, w)", shape);
  const std::int64_t people = shape[0];
  set_.check(shape[1], flip_pairs_, kind);
  const auto affines = rows_of<double>(inputs, "affines", people, 6);
  const auto boxes = rows_of<float>(inputs, "boxes", people, 4);
  const auto box_scores = rows_of<float>(inputs, "box_scores", people, 1);

  auto values = maps.data<float>();
  std::vector<float> averaged;
  if (mirrored != nullptr) {
    if (!std::ranges::equal(mirrored->shape(), shape)) bad_shape(kFlipped, plugin::to_text(shape), mirrored->shape());
    std::vector<std::size_t> partner(static_cast<std::size_t>(shape[1]));
    std::iota(partner.begin(), partner.end(), std::size_t{0});
    for (const auto& [a, b] : flip_pairs_) {
      partner[static_cast<std::size_t>(a)] = static_cast<std::size_t>(b);
      partner[static_cast<std::size_t>(b)] = static_cast<std::size_t>(a);
    }
    averaged.assign(values.begin(), values.end());
    average_with_mirrored(averaged, mirrored->data<float>(), partner, shape[2], shape[3]);
    values = averaged;
  }

  const auto keypoints = static_cast<std::size_t>(shape[1]);
  const auto plane = static_cast<std::size_t>(shape[2] * shape[3]);
  People out{.keypoints = shape[1]};
  out.boxes.assign(boxes.begin(), boxes.end());
  if (boxes.empty()) out.boxes.assign(static_cast<std::size_t>(people) * 4, 0.0F);
  for (std::size_t i = 0; i < static_cast<std::size_t>(people); ++i) {
    Affine back;
    if (!affines.empty()) std::copy_n(&affines[i * 6], 6, back.m.begin());
    double sum = 0;
    std::size_t counted = 0;
    for (std::size_t k = 0; k < keypoints; ++k) {
      const Peak peak = peak_of(values.subspan((i * keypoints + k) * plane, plane), shape[2], shape[3]);
      const auto [x, y] = back(peak.x * stride_, peak.y * stride_);
      for (const double v : {x, y, static_cast<double>(peak.score)}) out.points.push_back(static_cast<float>(v));
      if (peak.score > threshold) sum += peak.score, ++counted;
    }
    const double mean = counted == 0 ? 0.0 : sum / static_cast<double>(counted);
    out.scores.push_back(static_cast<float>(box_scores.empty() ? mean : mean * box_scores[i]));
  }
  std::move(out).emit(set_, emit);
}

}  // namespace mambasdk::vision

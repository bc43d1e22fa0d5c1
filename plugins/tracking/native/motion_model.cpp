#include "motion_model.hpp"

#include <algorithm>
#include <cmath>

#include "mambasdk/plugin/json.hpp"

namespace mambasdk::tracking {

namespace {

[[noreturn]] void no_motion_model(const std::string& what) {
  plugin::invalid(what + "; expected a package of the family mambatrack, whose model maps deltas (B, L, 4) to delta " +
                  "(B, 4)");
}

bool has_tensor(std::span<const mambasdk_tensor_spec> specs, std::string_view name) {
  return std::any_of(specs.begin(), specs.end(), [&](const auto& spec) { return to_cpp(spec.name) == name; });
}

}  // namespace

MotionModel::MotionModel(const plugin::Model& model) : model_(model) {
  if (!has_tensor(model_.inputs(), "deltas") || !has_tensor(model_.outputs(), "delta")) {
    no_motion_model("this package holds another model");
  }
  plugin::JsonDocument document;
  (void)plugin::read_json(model_.description(), {}, document);  // what is no JSON leaves null
  const nlohmann::json& described = *document;
  const nlohmann::json none;
  const nlohmann::json& config = described.is_object() && described.contains("config") ? described["config"] : none;
  if (!config.is_object() || !config.contains("window") || !config["window"].is_number_integer() ||
      !config.contains("scale") || !config["scale"].is_number()) {
    no_motion_model("window or scale is missing in its config");
  }
  window_ = config["window"].get<std::int64_t>();
  scale_ = config["scale"].get<double>();
  if (window_ < 1 || window_ > 100000 || !(scale_ > 0.0) || !std::isfinite(scale_)) {
    no_motion_model("window or scale of its config is out of range");
  }
}

std::vector<float> MotionModel::run(std::span<const float> deltas, std::int64_t tracks, std::int64_t length) {
  const std::vector<Tensor> made = model_.run({{"deltas", TensorRef(deltas, {tracks, length, 4})}}, {"delta"});
  const std::span<const float> next = made[0].data<float>();
  if (next.size() != static_cast<std::size_t>(tracks) * 4) {
    plugin::fail(MAMBASDK_ERROR_INTERNAL, "the motion model gave " + std::to_string(next.size()) +
                                              " numbers, expected " + std::to_string(tracks * 4));
  }
  return {next.begin(), next.end()};
}

}  // namespace mambasdk::tracking

#include "motion_model.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace mambasdk::tracking {

namespace {

[[noreturn]] void no_motion_model(const std::string& directory, const std::string& what) {
  plugin::fail(MAMBASDK_ERROR_INVALID_ARGUMENT,
               directory + ": " + what + "; expected a package of the family mambatrack, whose model maps deltas " +
                   "(B, L, 4) to delta (B, 4)");
}

bool has_port(const nlohmann::json& ports, const char* name) {
  return std::any_of(ports.begin(), ports.end(), [&](const auto& port) { return port.value("name", "") == name; });
}

}  // namespace

MotionModel::MotionModel(const std::string& directory) : model_(directory) {
  const auto described = nlohmann::json::parse(model_.description(), nullptr, /*allow_exceptions=*/false);
  if (!described.is_object() || !has_port(described["inputs"], "deltas") || !has_port(described["outputs"], "delta")) {
    no_motion_model(directory, "this package holds another model");
  }
  const nlohmann::json& config = described["config"];
  if (!config.is_object() || !config.contains("window") || !config["window"].is_number_integer() ||
      !config.contains("scale") || !config["scale"].is_number()) {
    no_motion_model(directory, "window or scale is missing in its config");
  }
  window_ = config["window"].get<std::int64_t>();
  scale_ = config["scale"].get<double>();
  if (window_ < 1 || window_ > 100000 || !(scale_ > 0.0) || !std::isfinite(scale_)) {
    no_motion_model(directory, "window or scale of its config is out of range");
  }
  relay_.struct_size = sizeof(relay_);
  relay_.device = {1, 0};
  relay_.user = this;
  relay_.parallel_for = [](void* user, std::int64_t n, std::int64_t grain, mambasdk_range_fn fn, void* arg) {
    const mambasdk_context& context = *static_cast<MotionModel*>(user)->current_;
    context.parallel_for(context.user, n, grain, fn, arg);
  };
  relay_.is_cancelled = [](void* user) {
    const mambasdk_context& context = *static_cast<MotionModel*>(user)->current_;
    return context.is_cancelled(context.user);
  };
}

std::vector<float> MotionModel::run(std::span<const float> deltas, std::int64_t tracks, std::int64_t length) {
  if (!session_) session_.emplace(model_, &relay_);
  const std::vector<Tensor> made = session_->run({{"deltas", TensorRef(deltas, {tracks, length, 4})}}, {"delta"});
  const std::span<const float> next = made[0].data<float>();
  if (next.size() != static_cast<std::size_t>(tracks) * 4) {
    plugin::fail(MAMBASDK_ERROR_INTERNAL, "the motion model gave " + std::to_string(next.size()) +
                                              " numbers, expected " + std::to_string(tracks * 4));
  }
  return {next.begin(), next.end()};
}

}  // namespace mambasdk::tracking

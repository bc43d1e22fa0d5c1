// The model of a head as what predicts motion.
#pragma once

#include <vector>

#include "mambasdk/plugin.hpp"
#include "motion.hpp"

namespace mambasdk::tracking {

class MotionModel {
 public:
  // A model that maps `deltas` f32 (B, L, 4) to `delta` f32 (B, 4), with window and scale in its config. Throws Error
  // where it is none.
  explicit MotionModel(const plugin::Model& model);

  [[nodiscard]] std::int64_t window() const { return window_; }
  [[nodiscard]] double scale() const { return scale_; }
  // deltas (tracks, length, 4) to (tracks, 4).
  [[nodiscard]] std::vector<float> run(std::span<const float> deltas, std::int64_t tracks, std::int64_t length);

 private:
  plugin::Model model_;
  std::int64_t window_ = 0;
  double scale_ = 0.0;
};

}  // namespace mambasdk::tracking

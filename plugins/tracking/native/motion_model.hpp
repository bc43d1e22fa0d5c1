// The model of a package as what predicts motion: loaded and run through the host's own engines.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mambasdk/plugin.hpp"
#include "motion.hpp"

namespace mambasdk::tracking {

class MotionModel {
 public:
  // directory: a package whose model maps `deltas` f32 (B, L, 4) to `delta` f32 (B, 4), with window and scale in its
  // config. Throws Error where it is none.
  explicit MotionModel(const std::string& directory);
  MotionModel(const MotionModel&) = delete;
  MotionModel& operator=(const MotionModel&) = delete;

  [[nodiscard]] std::int64_t window() const { return window_; }
  [[nodiscard]] double scale() const { return scale_; }
  // deltas (tracks, length, 4) to (tracks, 4), on the threads of `use`.
  [[nodiscard]] std::vector<float> run(std::span<const float> deltas, std::int64_t tracks, std::int64_t length);
  // The context of the calls that follow; it must live through them.
  void use(const mambasdk_context& context) { current_ = &context; }

 private:
  Model model_;
  std::int64_t window_ = 0;
  double scale_ = 0.0;
  const mambasdk_context* current_ = nullptr;
  mambasdk_context relay_{};  // a session outlives the runs of a head, and so the contexts that these are given
  std::optional<Session> session_;
};

}  // namespace mambasdk::tracking

#include "motion.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace mambasdk::tracking {

namespace {

// A long prediction may shrink a box to nothing.
constexpr double kLeastSide = 1.0;

Vector4 centred(const Box& b) {
  const double width = b.x2 - b.x1;
  const double height = b.y2 - b.y1;
  return {b.x1 + width / 2.0, b.y1 + height / 2.0, width, height};
}

Box corners(double x, double y, double width, double height) {
  width = std::max(width, kLeastSide);
  height = std::max(height, kLeastSide);
  return {x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0};
}

class StillMotion final : public Motion {
 public:
  [[nodiscard]] MotionState start(const Box& detection) const override { return {detection, {}, {}}; }
  void predict(std::span<Forecast> tracks) override {
    for (Forecast& track : tracks) track.box = track.state->last;
  }
  void observe(MotionState& state, const Box& detection) const override { state.last = detection; }
  void go_on(MotionState&, const Box&) const override {}
};

// mambatrack.md, section 5.
class KalmanMotion final : public Motion {
 public:
  [[nodiscard]] MotionState start(const Box& detection) const override {
    return {detection, kalman_start(measured(detection)), {}};
  }
  void predict(std::span<Forecast> tracks) override {
    for (Forecast& track : tracks) {
      Vector8& mean = track.state->filter.mean;
      if (track.lost) mean[7] = 0.0;  // an unseen box does not go on growing
      kalman_predict(track.state->filter);
      const double height = std::max(mean[3], kLeastSide);
      track.box = corners(mean[0], mean[1], mean[2] * height, height);
    }
  }
  void observe(MotionState& state, const Box& detection) const override {
    state.last = detection;
    kalman_update(state.filter, measured(detection));
  }
  void go_on(MotionState&, const Box&) const override {}  // the filter has gone on by predicting

 private:
  static Vector4 measured(const Box& b) {
    const Vector4 box = centred(b);
    return {box[0], box[1], box[2] / box[3], box[3]};
  }
};

class ModelMotion final : public Motion {
 public:
  ModelMotion(DeltaModel model, std::shared_ptr<const DeltaModelOptions> options)
      : model_(std::move(model)), options_(std::move(options)) {}

  [[nodiscard]] MotionState start(const Box& detection) const override { return {detection, {}, {centred(detection)}}; }

  void predict(std::span<Forecast> tracks) override {
    std::map<std::size_t, std::vector<Forecast*>> by_length;  // length of the history in deltas
    for (Forecast& track : tracks) {
      track.box = track.state->last;
      const std::size_t boxes = track.state->boxes.size();
      if (boxes >= 2 && boxes >= static_cast<std::size_t>(options_->min_history)) {
        by_length[boxes - 1].push_back(&track);
      }
    }
    for (const auto& [length, group] : by_length) predict_group(length, group);
  }

  void observe(MotionState& state, const Box& detection) const override { append(state, detection); }
  void go_on(MotionState& state, const Box& predicted) const override { append(state, predicted); }

 private:
  void append(MotionState& state, const Box& box) const {
    state.last = box;
    state.boxes.push_back(centred(box));
    if (state.boxes.size() > static_cast<std::size_t>(options_->window) + 1) state.boxes.erase(state.boxes.begin());
  }

  void predict_group(std::size_t length, const std::vector<Forecast*>& group) {
    const Vector4 size = {options_->width, options_->height, options_->width, options_->height};
    std::vector<float> deltas;  // (tracks, length, 4)
    deltas.reserve(group.size() * length * 4);
    for (const Forecast* track : group) {
      const std::vector<Vector4>& boxes = track->state->boxes;
      for (std::size_t t = 1; t <= length; ++t) {
        for (std::size_t i = 0; i < 4; ++i) {
          deltas.push_back(static_cast<float>((boxes[t][i] - boxes[t - 1][i]) / size[i] * options_->scale));
        }
      }
    }
    const std::vector<float> made =
        model_(deltas, static_cast<std::int64_t>(group.size()), static_cast<std::int64_t>(length));  // (tracks, 4)
    for (std::size_t n = 0; n < group.size(); ++n) {
      Vector4 next = group[n]->state->boxes.back();
      bool finite = true;
      for (std::size_t i = 0; i < 4; ++i) {
        next[i] += static_cast<double>(made[n * 4 + i]) * size[i] / options_->scale;
        finite = finite && std::isfinite(next[i]);
      }
      if (finite) group[n]->box = corners(next[0], next[1], next[2], next[3]);
    }
  }

  DeltaModel model_;
  std::shared_ptr<const DeltaModelOptions> options_;
};

}  // namespace

std::unique_ptr<Motion> make_still_motion() {
  return std::make_unique<StillMotion>();
}

std::unique_ptr<Motion> make_kalman_motion() {
  return std::make_unique<KalmanMotion>();
}

std::unique_ptr<Motion> make_model_motion(DeltaModel model, std::shared_ptr<const DeltaModelOptions> options) {
  return std::make_unique<ModelMotion>(std::move(model), std::move(options));
}

}  // namespace mambasdk::tracking

// Where tracks will be in the next frame: not moved, by a Kalman filter, or by a learned motion model.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "detections.hpp"
#include "kalman.hpp"

namespace mambasdk::tracking {

// What a motion keeps of one track; each kind uses its own part.
struct MotionState {
  Box last;
  KalmanState filter;
  std::vector<Vector4> boxes;  // centre x, centre y, width, height; oldest first
};

struct Forecast {
  MotionState* state;
  bool lost;
  Box box;  // made by predict
};

class Motion {
 public:
  virtual ~Motion() = default;
  [[nodiscard]] virtual MotionState start(const Box& detection) const = 0;
  // The box of every track, one frame on.
  virtual void predict(std::span<Forecast> tracks) = 0;
  virtual void observe(MotionState& state, const Box& detection) const = 0;
  // Nothing was seen: the prediction counts as seen.
  virtual void go_on(MotionState& state, const Box& predicted) const = 0;
};

// Deltas (tracks, length, 4), row-major, to the next delta of each track (tracks, 4).
using DeltaModel =
    std::function<std::vector<float>(std::span<const float> deltas, std::int64_t tracks, std::int64_t length)>;

// mambatrack.md, sections 1 and 4.
struct DeltaModelOptions {
  std::int64_t window = 10;          // deltas that the model looks at
  double scale = 50.0;               // factor on deltas, of inputs and outputs
  std::int64_t min_history = 6;      // with fewer boxes a track is expected where it was last
  double width = 0.0, height = 0.0;  // of the image: deltas are fractions of it
};

[[nodiscard]] std::unique_ptr<Motion> make_still_motion();
[[nodiscard]] std::unique_ptr<Motion> make_kalman_motion();
// `options` is read at every prediction. Tracks with equally long histories go through the model together: in one call,
// but for tracks that are younger than the window.
[[nodiscard]] std::unique_ptr<Motion> make_model_motion(DeltaModel model,
                                                        std::shared_ptr<const DeltaModelOptions> options);

}  // namespace mambasdk::tracking

// The constant-velocity Kalman filter of SORT and ByteTrack: state (cx, cy, a = width / height, h) and their velocities
// per frame. Noise grows with the box's height. Constants: mambatrack.md, section 5.
#pragma once

#include <array>
#include <span>

namespace mambasdk::tracking {

using Vector4 = std::array<double, 4>;
using Vector8 = std::array<double, 8>;
using Matrix8 = std::array<double, 64>;  // row-major

struct KalmanState {
  Vector8 mean;
  Matrix8 covariance;
};

[[nodiscard]] KalmanState kalman_start(const Vector4& measurement);
void kalman_predict(KalmanState& state);
void kalman_update(KalmanState& state, const Vector4& measurement);

}  // namespace mambasdk::tracking

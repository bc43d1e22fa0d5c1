// Assignment and the Kalman filter as operations, for those who build a tracker of their own. Registered by plugin.cpp.
#pragma once

#include "assignment.hpp"
#include "kalman.hpp"
#include "mambasdk/plugin.hpp"

namespace mambasdk::tracking {

struct LinearAssignment {
  static constexpr std::string_view signature = "linear_assignment(cost: f64[R,C], limit: float) -> (columns: i64[R])";
  static constexpr std::string_view doc =
      "The column of each row (-1: none) in a matching that minimises the pairs' costs plus limit / 2 for each "
      "unmatched row and column. No pair costs more than the limit.";
  static void reference(const plugin::CallOf<LinearAssignment>& call);
};

struct KalmanPredict {
  static constexpr std::string_view signature =
      "kalman_predict(mean: f64[N,8], covariance: f64[N,8,8]) -> (predicted_mean: f64[N,8], "
      "predicted_covariance: f64[N,8,8])";
  static constexpr std::string_view doc =
      "One frame of the constant-velocity filter of boxes: (cx, cy, w/h, h) and "
      "their velocities.";
  static void reference(const plugin::CallOf<KalmanPredict>& call);
};

struct KalmanUpdate {
  static constexpr std::string_view signature =
      "kalman_update(mean: f64[N,8], covariance: f64[N,8,8], measurement: f64[N,4]) -> (updated_mean: f64[N,8], "
      "updated_covariance: f64[N,8,8])";
  static constexpr std::string_view doc = "Takes a measured box (cx, cy, w/h, h) into the filter's state.";
  static void reference(const plugin::CallOf<KalmanUpdate>& call);
};

}  // namespace mambasdk::tracking

#include "kalman.hpp"

#include <cmath>

namespace mambasdk::tracking {

namespace {

constexpr double kPosition = 1.0 / 20.0;  // standard deviations as fractions of the height
constexpr double kVelocity = 1.0 / 160.0;
constexpr double kAspect = 1e-2;
constexpr double kAspectVelocity = 1e-5;
constexpr double kAspectMeasured = 1e-1;

Vector8 deviations(double height, double position, double velocity) {
  const double p = position * kPosition * height;
  const double v = velocity * kVelocity * height;
  return {p, p, kAspect, p, v, v, kAspectVelocity, v};
}

double& at(Matrix8& m, std::size_t i, std::size_t j) {
  return m[i * 8 + j];
}

}  // namespace

KalmanState kalman_start(const Vector4& measurement) {
  KalmanState s{};
  for (std::size_t i = 0; i < 4; ++i) s.mean[i] = measurement[i];
  const Vector8 std = deviations(measurement[3], 2.0, 10.0);
  for (std::size_t i = 0; i < 8; ++i) at(s.covariance, i, i) = std[i] * std[i];
  return s;
}

// mean = F mean, covariance = F covariance F' + Q with F = [I I; 0 I].
void kalman_predict(KalmanState& s) {
  const Vector8 std = deviations(s.mean[3], 1.0, 1.0);
  for (std::size_t i = 0; i < 4; ++i) s.mean[i] += s.mean[i + 4];
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 8; ++j) at(s.covariance, i, j) += at(s.covariance, i + 4, j);
  }
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t j = 0; j < 4; ++j) at(s.covariance, i, j) += at(s.covariance, i, j + 4);
  }
  for (std::size_t i = 0; i < 8; ++i) at(s.covariance, i, i) += std[i] * std[i];
}

void kalman_update(KalmanState& s, const Vector4& measurement) {
  const double noise = kPosition * s.mean[3];
  const Vector4 std = {noise, noise, kAspectMeasured, noise};
  // S = H P H' + R is the upper left block; its Cholesky factor L.
  double lower[4][4] = {};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = at(s.covariance, i, j) + (i == j ? std[i] * std[i] : 0.0);
      for (std::size_t k = 0; k < j; ++k) sum -= lower[i][k] * lower[j][k];
      lower[i][j] = i == j ? std::sqrt(sum) : sum / lower[j][j];
    }
  }
  // Y = P H' L^-T, so that the gain is Y L^-1 and P loses Y Y'.
  double y[8][4];
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      double sum = at(s.covariance, i, j);
      for (std::size_t k = 0; k < j; ++k) sum -= y[i][k] * lower[j][k];
      y[i][j] = sum / lower[j][j];
    }
  }
  double innovation[4];  // L^-1 (z - H mean)
  for (std::size_t i = 0; i < 4; ++i) {
    double sum = measurement[i] - s.mean[i];
    for (std::size_t k = 0; k < i; ++k) sum -= lower[i][k] * innovation[k];
    innovation[i] = sum / lower[i][i];
  }
  for (std::size_t i = 0; i < 8; ++i) {
    for (std::size_t k = 0; k < 4; ++k) s.mean[i] += y[i][k] * innovation[k];
    for (std::size_t j = 0; j < 8; ++j) {
      for (std::size_t k = 0; k < 4; ++k) at(s.covariance, i, j) -= y[i][k] * y[j][k];
    }
  }
}

}  // namespace mambasdk::tracking

// The functions of elementwise operations (table.hpp) in double, for the scalar kernels.
#pragma once

#include <cmath>

#include "ops/elementwise/table.hpp"

#define MAMBASDK_FORMULA static inline

namespace mambasdk::elementwise::scalar {

using Number = double;
using Parameter = double;
using Condition = bool;
using std::cos;
using std::exp;
using std::floor;
using std::sin;
using std::sqrt;
using std::tanh;

constexpr double number(double constant) {
  return constant;
}
constexpr double zero() {
  return 0.0;
}
constexpr double one() {
  return 1.0;
}
constexpr double everywhere(double parameter) {
  return parameter;
}
inline double select(bool condition, double yes, double no) {
  return condition ? yes : no;
}
inline double absolute(double x) {
  return std::abs(x);
}
inline double nearest(double x) {
  return std::nearbyint(x);
}
inline double power(double x, double y) {
  return std::pow(x, y);
}
inline double natural_log(double x) {
  return std::log(x);
}
inline double natural_log1p(double x) {
  return std::log1p(x);
}
inline double exp_minus_1(double x) {
  return std::expm1(x);
}
inline double error_function(double x) {
  return std::erf(x);
}
// x - y trunc(x / y).
inline double exact_remainder(double x, double y) {
  return std::fmod(x, y);
}
inline double sigmoid(double x) {
  return 1.0 / (1.0 + exp(-x));
}
inline double silu(double x) {
  return x * sigmoid(x);
}
inline double softplus(double x) {
  return x > 20.0 ? x : std::log1p(exp(x));
}
inline double softplus_slope(double x) {
  return x > 20.0 ? 1.0 : sigmoid(x);
}
inline double normal_distribution(double x) {
  return 0.5 * std::erfc(-x * std::sqrt(0.5));
}
inline double gelu(double x) {
  return x * normal_distribution(x);
}

#include "ops/elementwise/formulas.hpp"

}  // namespace mambasdk::elementwise::scalar

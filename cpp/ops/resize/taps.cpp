#include "ops/resize/taps.hpp"

#include <algorithm>
#include <cmath>

namespace mambasdk::resize {
namespace {

// The position at or before `x`, at most the last; the last too where x is no number.
std::int64_t position(double x, std::int64_t size) {
  return x < static_cast<double>(size - 1) ? static_cast<std::int64_t>(std::floor(x)) : size - 1;
}

// In float32, as torch's: at an edge between two positions the rounding decides. Neither does torch's nearest ask for
// the scale where the extent stays or doubles.
std::int64_t nearest(const Rule& rule, std::int64_t i, std::int64_t size, std::int64_t count, double scale) {
  if (rule.mode == Mode::nearest && count == size) return i;
  if (rule.mode == Mode::nearest && count / 2 == size && count % 2 == 0) return i / 2;
  const float step =
      scale > 0.0 ? static_cast<float>(1.0 / scale) : static_cast<float>(size) / static_cast<float>(count);
  const float at = static_cast<float>(i) + (rule.mode == Mode::nearest_exact ? 0.5f : 0.0f);
  return position(static_cast<double>(at * step), size);
}

// Where output i lies, in positions of x.
double coordinate(const Rule& rule, std::int64_t i, std::int64_t size, std::int64_t count, double scale) {
  const auto at = static_cast<double>(i);
  if (rule.align_corners) {
    return count > 1 ? at * (static_cast<double>(size - 1) / static_cast<double>(count - 1)) : 0.0;
  }
  const double step = scale > 0.0 ? 1.0 / scale : static_cast<double>(size) / static_cast<double>(count);
  return step * (at + 0.5) - 0.5;
}

// A tap at a position beyond the edge is one at the edge; equal positions are one tap, and those of weight 0 none.
void add(Taps& taps, std::int64_t index, double weight, std::int64_t size) {
  if (weight == 0.0) return;
  index = std::clamp<std::int64_t>(index, 0, size - 1);
  if (taps.count > 0 && taps.index[taps.count - 1] == index) {
    taps.weight[taps.count - 1] += weight;
    return;
  }
  taps.index[taps.count] = index;
  taps.weight[taps.count++] = weight;
}

Taps linear(double x, std::int64_t size) {
  x = std::max(x, 0.0);
  const std::int64_t first = position(x, size);
  const double fraction = std::clamp(x - static_cast<double>(first), 0.0, 1.0);
  Taps taps;
  add(taps, first, 1.0 - fraction, size);
  add(taps, first + 1, fraction, size);
  return taps;
}

// Keys' cubic convolution with a = -0.75 (IEEE TASSP 29, 1981), as torch's.
Taps cubic(double x, std::int64_t size) {
  constexpr double a = -0.75;
  const std::int64_t middle = position(std::max(x, -2.0), size);
  const double t = std::clamp(x - static_cast<double>(middle), 0.0, 1.0);
  const auto near = [](double d) { return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0; };
  const auto far = [](double d) { return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a; };
  Taps taps;
  add(taps, middle - 1, far(t + 1.0), size);
  add(taps, middle, near(t), size);
  add(taps, middle + 1, near(1.0 - t), size);
  add(taps, middle + 2, far(2.0 - t), size);
  return taps;
}

}  // namespace

std::vector<Taps> taps_of(const Rule& rule, std::int64_t size, std::int64_t count, double scale) {
  std::vector<Taps> all(static_cast<std::size_t>(count));
  if (rule.mode == Mode::linear && count == size) scale = 0.0;  // nor does its linear where the extent stays
  for (std::int64_t i = 0; i < count; ++i) {
    Taps& taps = all[static_cast<std::size_t>(i)];
    if (rule.mode == Mode::linear) {
      taps = linear(coordinate(rule, i, size, count, scale), size);
    } else if (rule.mode == Mode::cubic) {
      taps = cubic(coordinate(rule, i, size, count, scale), size);
    } else {
      add(taps, nearest(rule, i, size, count, scale), 1.0, size);
    }
  }
  return all;
}

}  // namespace mambasdk::resize

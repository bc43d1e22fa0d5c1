#include "tiles.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mambasdk::medical {

namespace {

// A Gaussian filter's answer to a 1 at extent / 2, truncated after four deviations.
std::vector<double> gaussian_row(std::int64_t extent, double sigma_scale) {
  constexpr double kTruncate = 4.0;
  const double sigma = static_cast<double>(extent) * sigma_scale;
  const auto radius = static_cast<std::int64_t>(kTruncate * sigma + 0.5);
  std::vector<double> weights;  // from the centre out
  double sum = 0;
  for (std::int64_t i = 0; i <= radius; ++i) {
    weights.push_back(std::exp(-0.5 / (sigma * sigma) * static_cast<double>(i * i)));
    sum += (i == 0 ? 1.0 : 2.0) * weights.back();
  }
  std::vector<double> row(static_cast<std::size_t>(extent), 0.0);
  for (std::int64_t i = 0; i < extent; ++i) {
    const std::int64_t away = std::abs(i - extent / 2);
    if (away <= radius) row[static_cast<std::size_t>(i)] = weights[static_cast<std::size_t>(away)] / sum;
  }
  return row;
}

}  // namespace

std::vector<std::int64_t> tile_starts(std::int64_t size, std::int64_t tile, double step) {
  const double stride = static_cast<double>(tile) * step;
  if (tile < 1 || size < tile || !(step > 0 && step <= 1) || stride < 1) {
    plugin::invalid("tile_starts: expected 1 <= tile <= size and a step in (0, 1] of one sample or more, got size " +
                    std::to_string(size) + ", tile " + std::to_string(tile) + ", step " + std::to_string(step));
  }
  const auto room = static_cast<double>(size - tile);
  const auto count = static_cast<std::int64_t>(std::ceil(room / stride)) + 1;
  std::vector<std::int64_t> starts{0};
  const double apart = count > 1 ? room / static_cast<double>(count - 1) : 0.0;
  for (std::int64_t i = 1; i < count; ++i) {
    starts.push_back(static_cast<std::int64_t>(std::nearbyint(apart * static_cast<double>(i))));
  }
  return starts;
}

std::vector<float> gaussian_map(const Shape& tile, double sigma_scale) {
  std::array<std::vector<double>, 3> rows;
  double peak = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    // An axis of one sample has no neighbours: all of the weight is there.
    rows[a] = tile[a] == 1 ? std::vector<double>{1.0} : gaussian_row(tile[a], sigma_scale);
    peak *= *std::max_element(rows[a].begin(), rows[a].end());
  }
  std::vector<float> map;
  map.reserve(count_of(tile));
  float least = 1;
  for (const double d : rows[0]) {
    for (const double h : rows[1]) {
      for (const double w : rows[2]) {
        map.push_back(static_cast<float>(d * h * w / peak));
        if (map.back() > 0) least = std::min(least, map.back());
      }
    }
  }
  for (float& v : map) {
    if (v == 0) v = least;
  }
  return map;
}

}  // namespace mambasdk::medical

#include "heat_maps.hpp"

#include <algorithm>
#include <cmath>

namespace mambasdk::vision {

namespace {

double quarter_towards(float before, float after) {
  if (after > before) return 0.25;
  return after < before ? -0.25 : 0.0;
}

}  // namespace

Peak peak_of(std::span<const float> map, std::int64_t height, std::int64_t width) {
  std::size_t best = map.size();
  for (std::size_t i = 0; i < map.size(); ++i) {
    if (std::isfinite(map[i]) && (best == map.size() || map[i] > map[best])) best = i;
  }
  if (best == map.size()) return {};
  const auto side = static_cast<std::size_t>(width);
  const std::size_t x = best % side;
  const std::size_t y = best / side;
  Peak peak{static_cast<double>(x), static_cast<double>(y), map[best]};
  if (x > 0 && x + 1 < side) peak.x += quarter_towards(map[best - 1], map[best + 1]);
  if (y > 0 && y + 1 < static_cast<std::size_t>(height)) {
    peak.y += quarter_towards(map[best - side], map[best + side]);
  }
  return peak;
}

void average_with_mirrored(std::span<float> maps, std::span<const float> mirrored,
                           const std::vector<std::size_t>& partner, std::int64_t height, std::int64_t width) {
  const auto side = static_cast<std::size_t>(width);
  const auto rows = static_cast<std::size_t>(height);
  const std::size_t plane = rows * side;
  const std::size_t keypoints = partner.size();
  for (std::size_t i = 0; plane != 0 && i < maps.size() / plane; ++i) {
    const std::size_t other = i / keypoints * keypoints + partner[i % keypoints];
    for (std::size_t y = 0; y < rows; ++y) {
      float* row = &maps[i * plane + y * side];
      const float* from = &mirrored[other * plane + y * side];
      for (std::size_t x = 0; x < side; ++x) {
        const std::size_t moved = x == 0 ? 0 : x - 1;
        row[x] = (row[x] + from[side - 1 - moved]) / 2;
      }
    }
  }
}

}  // namespace mambasdk::vision

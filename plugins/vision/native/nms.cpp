#include "nms.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "kept_boxes.hpp"

namespace mambasdk::vision {

namespace {

Extent extent_of(std::span<const float> boxes) {
  constexpr double kFar = std::numeric_limits<double>::infinity();
  double x1 = kFar, y1 = kFar, x2 = -kFar, y2 = -kFar;
  for (std::size_t i = 0; i + 3 < boxes.size(); i += 4) {
    x1 = std::min<double>(x1, boxes[i]), y1 = std::min<double>(y1, boxes[i + 1]);
    x2 = std::max<double>(x2, boxes[i + 2]), y2 = std::max<double>(y2, boxes[i + 3]);
  }
  return {x1, y1, x2 - x1, y2 - y1};
}

}  // namespace

std::vector<std::size_t> non_maximum_suppression(std::span<const float> boxes, std::span<const float> scores,
                                                 std::span<const std::int64_t> classes, double iou_threshold,
                                                 std::size_t most) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  const Extent extent = extent_of(boxes);
  std::unordered_map<std::int64_t, KeptBoxes> by_class;
  std::vector<std::size_t> kept;
  for (const std::size_t i : order) {
    if (kept.size() == most) break;
    const std::int64_t id = classes.empty() ? 0 : classes[i];
    KeptBoxes& rivals = by_class.try_emplace(id, extent, iou_threshold).first->second;
    const Box box = box_at(&boxes[i * 4]);
    if (rivals.cover(box)) continue;
    rivals.keep(box);
    kept.push_back(i);
  }
  return kept;
}

}  // namespace mambasdk::vision

#include "nms.hpp"

#include <algorithm>
#include <numeric>

namespace mambasdk::vision {

namespace {

double area(const float* box) {
  return std::max(0.0, static_cast<double>(box[2]) - box[0]) * std::max(0.0, static_cast<double>(box[3]) - box[1]);
}

double iou(const float* a, const float* b) {
  const double width = static_cast<double>(std::min(a[2], b[2])) - std::max(a[0], b[0]);
  const double height = static_cast<double>(std::min(a[3], b[3])) - std::max(a[1], b[1]);
  if (!(width > 0.0 && height > 0.0)) return 0.0;
  const double common = width * height;
  return common / (area(a) + area(b) - common);
}

}  // namespace

std::vector<std::size_t> non_maximum_suppression(std::span<const float> boxes, std::span<const float> scores,
                                                 std::span<const std::int64_t> classes, double iou_threshold,
                                                 std::size_t most) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  std::vector<std::size_t> kept;
  for (const std::size_t i : order) {
    if (kept.size() == most) break;
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](std::size_t k) {
      return (classes.empty() || classes[k] == classes[i]) && iou(&boxes[k * 4], &boxes[i * 4]) > iou_threshold;
    });
    if (!covered) kept.push_back(i);
  }
  return kept;
}

}  // namespace mambasdk::vision

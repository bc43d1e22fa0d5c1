// Greedy non-maximum suppression.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::vision {

// boxes: (n, 4) as x1, y1, x2, y2; scores: (n); classes: (n) or empty, boxes of different classes never meet.
// Returns the kept indices, best first, equal scores by index, `most` of them at most; a box goes when its IoU with a
// kept one is above the threshold.
[[nodiscard]] std::vector<std::size_t> non_maximum_suppression(std::span<const float> boxes,
                                                               std::span<const float> scores,
                                                               std::span<const std::int64_t> classes,
                                                               double iou_threshold, std::size_t most);

}  // namespace mambasdk::vision

#include "kept_boxes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mambasdk::vision {

namespace {

constexpr double kSlack = 1e-6;  // of sides, for what rounding does to a bound

double longest(const Box& box) {
  return std::max(box.x2 - box.x1, box.y2 - box.y1);
}

// floor(log2(side)) + 32 within the levels; sides beyond share the last or the first one.
int level_of(double side, int levels) {
  if (!(side > 0.0)) return 0;
  if (!std::isfinite(side)) return levels - 1;
  return std::clamp(std::ilogb(side) + levels / 2, 0, levels - 1);
}

}  // namespace

Box box_at(const float* corners) {
  const double x1 = corners[0], y1 = corners[1], x2 = corners[2], y2 = corners[3];
  return {x1, y1, x2, y2, std::max(0.0, x2 - x1) * std::max(0.0, y2 - y1)};
}

double iou(const Box& a, const Box& b) {
  const double width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const double height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(width > 0.0 && height > 0.0)) return 0.0;
  const double common = width * height;
  return common / (a.area + b.area - common);
}

int KeptBoxes::column(double x) const {
  const double place = (x - extent_.x) / extent_.width * kCells;
  return place > 0.0 ? static_cast<int>(std::min(place, kCells - 1.0)) : 0;
}

int KeptBoxes::row(double y) const {
  const double place = (y - extent_.y) / extent_.height * kCells;
  return place > 0.0 ? static_cast<int>(std::min(place, kCells - 1.0)) : 0;
}

bool KeptBoxes::cover(const Box& box) const {
  const double side = longest(box);
  const int own = level_of(side, kLevels);
  // The longest side of a box with an IoU above t is above t and below 1 / t of this one's.
  const int least = level_of(side * threshold_ * (1.0 - kSlack), kLevels);
  const int most = threshold_ > 0.0 ? level_of(side / threshold_ * (1.0 + kSlack), kLevels) : kLevels - 1;
  const std::uint64_t from_least = ~std::uint64_t{0} << std::min(least, own);
  const std::uint64_t to_most = ~std::uint64_t{0} >> (kLevels - 1 - std::max(most, own));
  for (std::uint64_t left = used_ & from_least & to_most; left != 0; left &= left - 1) {
    const int level = std::countr_zero(left);
    if (cover(levels_[static_cast<std::size_t>(level)], std::ldexp(2.0, level - kLevels / 2), box)) return true;
  }
  return false;
}

bool KeptBoxes::cover(const Level& level, double largest_side, const Box& box) const {
  // A box that meets this one has its centre no farther from it than half its own side.
  const double reach = largest_side / 2 * (1.0 + kSlack) + longest(box) * kSlack;
  const int left = column(box.x1 - reach), right = column(box.x2 + reach);
  const int top = row(box.y1 - reach), bottom = row(box.y2 + reach);
  const int cells = (right - left + 1) * (bottom - top + 1);
  if (level.first.empty() || level.boxes.size() < static_cast<std::size_t>(cells)) {
    return std::any_of(level.boxes.begin(), level.boxes.end(),
                       [&](const Box& kept) { return iou(kept, box) > threshold_; });
  }
  for (int y = top; y <= bottom; ++y) {
    for (int x = left; x <= right; ++x) {
      std::int32_t i = level.first[static_cast<std::size_t>(y * kCells + x)];
      for (; i != kNone; i = level.next[static_cast<std::size_t>(i)]) {
        if (iou(level.boxes[static_cast<std::size_t>(i)], box) > threshold_) return true;
      }
    }
  }
  return false;
}

void KeptBoxes::keep(const Box& box) {
  const int number = level_of(longest(box), kLevels);
  Level& level = levels_[static_cast<std::size_t>(number)];
  used_ |= std::uint64_t{1} << number;
  level.boxes.push_back(box);
  // The first and the last level have boxes of any size beyond, which no grid finds; nor does one of no extent.
  const bool bounded = number > 0 && number < kLevels - 1 && std::isfinite(extent_.width + extent_.height) &&
                       extent_.width > 0.0 && extent_.height > 0.0;
  if (!bounded || level.boxes.size() <= kFew) return;
  if (level.first.empty()) {
    level.first.assign(static_cast<std::size_t>(kCells * kCells), kNone);
    for (std::size_t i = 0; i + 1 < level.boxes.size(); ++i) enter(level, i);
  }
  enter(level, level.boxes.size() - 1);
}

void KeptBoxes::enter(Level& level, std::size_t index) const {
  const Box& box = level.boxes[index];
  const int cell = row((box.y1 + box.y2) / 2) * kCells + column((box.x1 + box.x2) / 2);
  std::int32_t& first = level.first[static_cast<std::size_t>(cell)];
  level.next.push_back(first);
  first = static_cast<std::int32_t>(index);
}

}  // namespace mambasdk::vision

#include "kept_boxes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mambasdk::vision {

namespace {

constexpr double kSlack = 1e-6;       // of sides, for what rounding does to a bound
constexpr double kFloatSlack = 1e-5;  // of IoU in float32

double longest(const Box& box) {
  return std::max(box.x2 - box.x1, box.y2 - box.y1);
}

// Too thin, too large or no number: float32 may not tell its area.
bool is_odd(const Box& box) {
  constexpr double kLeast = 0x1p-30;
  constexpr double kMost = 0x1p30;
  const double width = box.x2 - box.x1;
  const double height = box.y2 - box.y1;
  return !(std::min(width, height) > kLeast && std::max(width, height) < kMost);
}

// floor(log2(side)) + 32, 0 for what is no positive number.
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
  // The longest side of a box with an IoU above t is above t and below 1 / t of this one's.
  const int least = level_of(side * threshold_ * (1.0 - kSlack), kLevels);
  const int most = threshold_ > 0.0 ? level_of(side / threshold_ * (1.0 + kSlack), kLevels) : kLevels - 1;
  const bool odd = is_odd(box);
  std::uint64_t near = ~std::uint64_t{0};
  if (!odd) near = (near << least & near >> (kLevels - 1 - most)) | 1;
  for (std::uint64_t left = used_ & near; left != 0; left &= left - 1) {
    if (cover(std::countr_zero(left), box, odd)) return true;
  }
  return false;
}

bool KeptBoxes::cover(int number, const Box& box, bool odd) const {
  const Level& level = levels_[static_cast<std::size_t>(number)];
  if (odd || number == 0) return any_exactly(level.boxes, box);
  if (level.first.empty()) return any(level, box);
  // A box that meets this one has its centre no farther from it than half its own side.
  const double reach = std::ldexp(1.0 + kSlack, number - kLevels / 2) + longest(box) * kSlack;
  const int left = column(box.x1 - reach), right = column(box.x2 + reach);
  const int top = row(box.y1 - reach), bottom = row(box.y2 + reach);
  const auto cells = static_cast<std::size_t>((right - left + 1) * (bottom - top + 1));
  if (level.boxes.size() < 2 * cells) return any(level, box);
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

// Blocks in float32, whose rounding kFloatSlack allows for; what may be above the threshold is compared exactly.
bool KeptBoxes::any(const Level& level, const Box& box) const {
  const auto x1 = static_cast<float>(box.x1), y1 = static_cast<float>(box.y1), x2 = static_cast<float>(box.x2),
             y2 = static_cast<float>(box.y2), area = static_cast<float>(box.area);
  const auto share = static_cast<float>(threshold_ * (1.0 - kFloatSlack));
  for (std::size_t begin = 0; begin < level.boxes.size(); begin += kBlock) {
    const float* a = &level.columns[0][begin];
    const float* b = &level.columns[1][begin];
    const float* c = &level.columns[2][begin];
    const float* d = &level.columns[3][begin];
    const float* other = &level.columns[4][begin];
    int near = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
      const float width = std::max(std::min(c[i], x2) - std::max(a[i], x1), 0.0F);
      const float height = std::max(std::min(d[i], y2) - std::max(b[i], y1), 0.0F);
      const float common = width * height;
      near |= static_cast<int>(common > share * (other[i] + area - common));
    }
    if (near == 0) continue;
    const std::size_t end = std::min(begin + kBlock, level.boxes.size());
    for (std::size_t i = begin; i < end; ++i) {
      if (iou(level.boxes[i], box) > threshold_) return true;
    }
  }
  return false;
}

bool KeptBoxes::any_exactly(const std::vector<Box>& boxes, const Box& box) const {
  return std::any_of(boxes.begin(), boxes.end(), [&](const Box& kept) { return iou(kept, box) > threshold_; });
}

void KeptBoxes::keep(const Box& box) {
  const int number = is_odd(box) ? 0 : std::max(level_of(longest(box), kLevels), 1);
  Level& level = levels_[static_cast<std::size_t>(number)];
  used_ |= std::uint64_t{1} << number;
  const std::size_t place = level.boxes.size();
  level.boxes.push_back(box);
  if (number == 0) return;
  const double values[5] = {box.x1, box.y1, box.x2, box.y2, box.area};
  for (std::size_t k = 0; k < level.columns.size(); ++k) {
    if (place % kBlock == 0) level.columns[k].resize(place + kBlock, 0.0F);
    level.columns[k][place] = static_cast<float>(values[k]);
  }
  const bool bounded =
      extent_.width > 0.0 && extent_.height > 0.0 && std::isfinite(extent_.width) && std::isfinite(extent_.height);
  if (!bounded || level.boxes.size() <= kFew) return;
  if (level.first.empty()) {
    level.first.assign(static_cast<std::size_t>(kCells * kCells), kNone);
    for (std::size_t i = 0; i < place; ++i) enter(level, i);
  }
  enter(level, place);
}

void KeptBoxes::enter(Level& level, std::size_t index) const {
  const Box& box = level.boxes[index];
  const int cell = row((box.y1 + box.y2) / 2) * kCells + column((box.x1 + box.x2) / 2);
  std::int32_t& first = level.first[static_cast<std::size_t>(cell)];
  level.next.push_back(first);
  first = static_cast<std::int32_t>(index);
}

}  // namespace mambasdk::vision

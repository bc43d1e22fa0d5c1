// The boxes of one class that non-maximum suppression has kept, found by place and size.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace mambasdk::vision {

// A box with what comparing it takes; the corners are those of the float32 box.
struct Box {
  double x1, y1, x2, y2, area;
};

[[nodiscard]] Box box_at(const float* corners);

// Intersection over union; 0 where they do not meet.
[[nodiscard]] double iou(const Box& a, const Box& b);

// Where boxes lie: the smallest rectangle around all that will be asked for.
struct Extent {
  double x, y, width, height;
};

// IoU above t asks for sides whose ratio is above t, so only boxes of nearly the same size are compared, and of these
// only those in the cells of a grid that a box of that size may reach, or all of them in float32 first.
class KeptBoxes {
 public:
  KeptBoxes(const Extent& extent, double iou_threshold) : extent_(extent), threshold_(iou_threshold) {}

  // Whether the IoU of a kept box with this one is above the threshold.
  [[nodiscard]] bool cover(const Box& box) const;
  void keep(const Box& box);

 private:
  static constexpr int kCells = 64;          // of a grid, along each side
  static constexpr std::size_t kFew = 64;    // boxes that are compared without a grid
  static constexpr std::size_t kBlock = 16;  // boxes that are compared at once
  static constexpr int kLevels = 64;         // sizes by powers of two, from 2^-32 to 2^31; level 0 has the odd ones
  static constexpr std::int32_t kNone = -1;

  struct Level {
    std::vector<Box> boxes;
    std::array<std::vector<float>, 5> columns;  // x1, y1, x2, y2 and area, filled up to whole blocks
    std::vector<std::int32_t> first;            // (kCells, kCells), index of a box or kNone; empty without a grid
    std::vector<std::int32_t> next;             // (boxes)
  };

  [[nodiscard]] bool cover(int number, const Box& box, bool odd) const;
  [[nodiscard]] bool any(const Level& level, const Box& box) const;
  [[nodiscard]] bool any_exactly(const std::vector<Box>& boxes, const Box& box) const;
  void enter(Level& level, std::size_t index) const;
  [[nodiscard]] int column(double x) const;
  [[nodiscard]] int row(double y) const;

  Extent extent_;
  double threshold_;
  std::array<Level, kLevels> levels_;
  std::uint64_t used_ = 0;  // a bit for each level with boxes
};

}  // namespace mambasdk::vision

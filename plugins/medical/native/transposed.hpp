// A volume's voxels with its axes in another order.
#pragma once

#include "volume.hpp"

namespace mambasdk::medical {

class Transposed {
 public:
  // Axis a of it is axis order[a] of `shape`.
  Transposed(const Shape& shape, const std::array<std::size_t, 3>& order) {
    const std::array<std::size_t, 3> steps{static_cast<std::size_t>(shape[1] * shape[2]),
                                           static_cast<std::size_t>(shape[2]), 1};
    for (std::size_t a = 0; a < 3; ++a) shape_[a] = shape[order[a]], steps_[a] = steps[order[a]];
  }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  // f(index in the volume as it was), in the order of the transposed one.
  template <class F>
  void for_each(F&& f) const {
    for (std::size_t z = 0; z < static_cast<std::size_t>(shape_[0]); ++z) {
      for (std::size_t y = 0; y < static_cast<std::size_t>(shape_[1]); ++y) {
        const std::size_t row = z * steps_[0] + y * steps_[1];
        for (std::size_t x = 0; x < static_cast<std::size_t>(shape_[2]); ++x) f(row + x * steps_[2]);
      }
    }
  }

 private:
  Shape shape_{};
  std::array<std::size_t, 3> steps_{};
};

[[nodiscard]] inline std::array<std::size_t, 3> inverse(const std::array<std::size_t, 3>& order) {
  std::array<std::size_t, 3> back{};
  for (std::size_t a = 0; a < 3; ++a) back[order[a]] = a;
  return back;
}

}  // namespace mambasdk::medical

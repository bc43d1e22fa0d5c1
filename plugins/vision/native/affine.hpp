// Affine maps between images, and resampling by them. A point is given in pixels: (0, 0) is the centre of the first
// one.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "image.hpp"

namespace mambasdk::vision {

struct Affine {
  // x' = m[0] x + m[1] y + m[2], y' = m[3] x + m[4] y + m[5]
  std::array<double, 6> m{1, 0, 0, 0, 1, 0};

  [[nodiscard]] std::array<double, 2> operator()(double x, double y) const {
    return {m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]};
  }
};

// From a crop of (height, width) back to the image: the box x1, y1, x2, y2 times `padding` about its centre, lengthened
// along one side until it has the crop's aspect.
[[nodiscard]] Affine crop_of_box(const std::array<double, 4>& box, std::int64_t height, std::int64_t width,
                                 double padding);

// The crop of (height, width) that `back` maps to the image, bilinear; what lies outside the image is 0, and so are the
// parts of a sample that do. out: (3, height, width), samples of 0 to 255 times scale[c] plus shift[c].
void warp(const Image& image, const Affine& back, std::int64_t height, std::int64_t width,
          const std::array<double, 3>& scale, const std::array<double, 3>& shift, std::span<float> out);

}  // namespace mambasdk::vision

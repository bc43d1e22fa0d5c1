#include "affine.hpp"

#include <cmath>

namespace mambasdk::vision {

Affine crop_of_box(const std::array<double, 4>& box, std::int64_t height, std::int64_t width, double padding) {
  const double aspect = static_cast<double>(width) / static_cast<double>(height);
  const double box_width = (box[2] - box[0]) * padding;
  const double box_height = (box[3] - box[1]) * padding;
  const double scale = std::max(box_width, box_height * aspect) / static_cast<double>(width);
  return {{scale, 0, (box[0] + box[2]) / 2 - scale * static_cast<double>(width) / 2,  //
           0, scale, (box[1] + box[3]) / 2 - scale * static_cast<double>(height) / 2}};
}

void warp(const Image& image, const Affine& back, std::int64_t height, std::int64_t width,
          const std::array<double, 3>& scale, const std::array<double, 3>& shift, std::span<float> out) {
  const std::size_t plane = static_cast<std::size_t>(height * width);
  const double right = static_cast<double>(image.width);
  const double bottom = static_cast<double>(image.height);
  for (std::int64_t row = 0; row < height; ++row) {
    for (std::int64_t column = 0; column < width; ++column) {
      const auto [x, y] = back(static_cast<double>(column), static_cast<double>(row));
      std::array<double, 3> sum{};
      if (x > -1 && y > -1 && x < right && y < bottom) {  // else, and for NaN, nothing of the image is near
        const auto left = static_cast<std::int64_t>(std::floor(x));
        const auto top = static_cast<std::int64_t>(std::floor(y));
        for (std::int64_t corner = 0; corner < 4; ++corner) {
          const std::int64_t cx = left + corner % 2;
          const std::int64_t cy = top + corner / 2;
          if (cx < 0 || cy < 0 || cx >= image.width || cy >= image.height) continue;
          const double weight =
              (1 - std::abs(x - static_cast<double>(cx))) * (1 - std::abs(y - static_cast<double>(cy)));
          const std::uint8_t* pixel = &image.rgb[static_cast<std::size_t>((cy * image.width + cx) * 3)];
          for (std::size_t c = 0; c < 3; ++c) sum[c] += weight * pixel[c];
        }
      }
      const std::size_t at = static_cast<std::size_t>(row * width + column);
      for (std::size_t c = 0; c < 3; ++c) out[c * plane + at] = static_cast<float>(sum[c] * scale[c] + shift[c]);
    }
  }
}

}  // namespace mambasdk::vision

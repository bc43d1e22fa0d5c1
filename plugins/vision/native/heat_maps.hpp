// Keypoints of heat maps: where a map is largest, refined by a quarter of a pixel.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::vision {

struct Peak {
  double x = 0, y = 0;  // in pixels of the map
  float score = 0;
};

// The largest value of a map (height, width), the first of equal ones, moved along each axis by a quarter of a pixel
// towards the larger of its two neighbours, where both are there and differ. Values that are not finite never are the
// largest; a map without others gives score 0 at (0, 0).
[[nodiscard]] Peak peak_of(std::span<const float> map, std::int64_t height, std::int64_t width);

// Adds to maps (n, keypoints, height, width) those of the mirrored images and halves the sum. mirrored: the same shape;
// its maps are mirrored back, change places as `partner` says (the left wrist of a mirrored image is the right one)
// and, because the mirrored pixels of a map of stride s lie s - 1 pixels of the image off, are moved right by one pixel
// with the first column kept.
void average_with_mirrored(std::span<float> maps, std::span<const float> mirrored,
                           const std::vector<std::size_t>& partner, std::int64_t height, std::int64_t width);

}  // namespace mambasdk::vision

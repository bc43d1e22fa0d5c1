// Resampling of 8-bit images: separable, antialiased when shrinking, in fixed point, the same bits as Pillow's resize.
#pragma once

#include "image.hpp"

namespace mambasdk::vision {

enum class Filter { bilinear, bicubic };

struct Window {
  std::int64_t top, left, height, width;
};

// What `window` cuts out of `image` resized to (height, width); pixels outside the window are never computed.
[[nodiscard]] Image resize(const Image& image, std::int64_t height, std::int64_t width, Filter filter, Window window);

}  // namespace mambasdk::vision

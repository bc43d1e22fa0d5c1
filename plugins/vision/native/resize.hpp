// Resampling of 8-bit images: separable, antialiased when shrinking, in fixed point. The same bits as Pillow's resize
// along rows and then along columns, the order of the Pillow that published models were trained with; later ones take
// the other order for some shapes, which changes a sample by 2 of 255 at most in our tests.
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

// Lines of pixels into float32, channel-last, whatever their layout. Plain arguments of the kernel.
// Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {
namespace packed {

// Strides count elements.
struct PixelLine {
  const void* data = nullptr;  // of the line's first pixel
  DType type{2, 32};
  std::int64_t stride = 0;          // from pixel to pixel
  std::int64_t channel_stride = 1;  // from channel to channel
  std::int64_t channels = 0;
  std::int64_t width = 0;  // pixels that there are
  std::int64_t pitch = 0;  // from pixel to pixel of the result, at least `channels`
};

}  // namespace packed

// Pixels first, first + step, … of the line, n of them; zeros where there are none.
MAMBASDK_DECLARE_KERNEL(void, copy_pixels, const packed::PixelLine& line, std::int64_t first, std::int64_t step,
                        std::int64_t n, float* to);

}  // namespace mambasdk

// unfold2d: from an image to its tokens. Argument struct of its kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

class Registry;
void register_tokens(Registry& registry);

namespace tokens {

struct UnfoldArgs {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;  // B, C, H, W
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0};
  std::int64_t out_height = 0, out_width = 0;
  int element_bytes = 4;
  const void* x = nullptr;
  std::int64_t x_stride[4] = {0, 0, 0, 0};  // elements
  void* y = nullptr;                        // (B, out_height, out_width, C * kernel[0] * kernel[1]), contiguous
};

}  // namespace tokens

MAMBASDK_DECLARE_KERNEL(void, unfold2d, const tokens::UnfoldArgs&, const Parallel&);

}  // namespace mambasdk

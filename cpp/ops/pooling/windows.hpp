// Which positions of x each output position of a pooling sees.
#pragma once

#include <vector>

#include "ops/pooling/pooling_args.hpp"

namespace mambasdk::pooling {

// A window that moves by `stride` over `size` positions with `before` of padding in front of them.
struct Slide {
  std::int64_t size, kernel, stride, before, after, dilation;
};

// The windows of `count` outputs. With count_padding, divisors count padding too: before x, and as much after it.
[[nodiscard]] std::vector<Window> sliding(const Slide& slide, std::int64_t count, bool count_padding);
// torch's adaptive rule: output i of `count` sees [floor(i size / count), ceil((i + 1) size / count)).
[[nodiscard]] std::vector<Window> adaptive(std::int64_t size, std::int64_t count);

}  // namespace mambasdk::pooling

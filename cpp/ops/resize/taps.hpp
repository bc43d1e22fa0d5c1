// Where the outputs of a resize lie in x: the rules of torch.nn.functional.interpolate.
#pragma once

#include <vector>

#include "ops/resize/resize_args.hpp"

namespace mambasdk::resize {

enum class Mode : std::int64_t { nearest = 0, nearest_exact = 1, linear = 2, cubic = 3 };
inline constexpr std::int64_t kModes = 4;

struct Rule {
  Mode mode;
  bool align_corners;
};

// The taps of `count` outputs over `size` positions; scale: how many outputs a position has, 0 for count / size.
[[nodiscard]] std::vector<Taps> taps_of(const Rule& rule, std::int64_t size, std::int64_t count, double scale);

}  // namespace mambasdk::resize

// grid_sample and deformable_sample: a map at positions that are computed. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/map.hpp"

namespace mambasdk {

namespace sampling {

// torch's numbers.
enum class Mode : std::int64_t { linear = 0, nearest = 1, cubic = 2 };
enum class Padding : std::int64_t { zeros = 0, border = 1, reflection = 2 };

struct Rule {
  Mode mode = Mode::linear;
  Padding padding = Padding::zeros;
  bool align_corners = false;
};

// Positions are float32: of more than these along an axis, neighbours would be one.
inline constexpr std::int64_t kMostPositions = std::int64_t{1} << 22;
// Taps of a deformable window.
inline constexpr std::int64_t kMostTaps = 128;

// Elements of one batch entry of x span less than 2^31.
struct GridArgs {
  Map x = {};
  Rule rule;
  int axes = 3;  // coordinates of a position: (width, height), then depth
  const float* grid = nullptr;
  std::int64_t grid_stride[5] = {0, 0, 0, 0, 0};
  std::int64_t size[3] = {0, 0, 0};  // depth, height, width of the grid
  void* y = nullptr;                 // (batch, size, channels) of x's type
};

struct DeformableArgs {
  Map x = {};
  const void* offset_mask = nullptr;  // of x's type
  std::int64_t offset_mask_stride[4] = {0, 0, 0, 0};
  std::int64_t groups = 1;
  std::int64_t kernel[2] = {3, 3}, stride[2] = {1, 1}, padding[2] = {1, 1}, dilation[2] = {1, 1};  // height, width
  double offset_scale = 1.0;
  std::int64_t size[2] = {0, 0};  // height and width of y
  void* y = nullptr;              // (batch, size, channels) of x's type
};

struct DeformableGradientArgs {
  DeformableArgs forward;  // but for y
  const void* grad_y = nullptr;
  std::int64_t grad_y_stride[3] = {0, 0, 0};  // channels are side by side
  float* sums = nullptr;             // (batch, height, width, channels) of x: grad_x itself where it is float32
  void* grad_x = nullptr;            // contiguous, of x's type
  void* grad_offset_mask = nullptr;  // contiguous, of x's type
  std::int64_t entries = 0;          // of offset_mask at a position
};

}  // namespace sampling

MAMBASDK_DECLARE_KERNEL(void, grid_sample, const sampling::GridArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, deformable_sample, const sampling::DeformableArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, deformable_sample_backward, const sampling::DeformableGradientArgs&, const Parallel&);

}  // namespace mambasdk

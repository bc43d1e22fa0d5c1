// unfold2d, concat_rows and mean_rows: between an image, its tokens and one vector. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_tokens(Registry& registry);

namespace tokens {

inline constexpr std::int64_t kMeanRows = 256;  // rows that are summed at once; their sums are added in order

struct UnfoldArgs {
  std::int64_t batch = 0, channels = 0, height = 0, width = 0;  // B, C, H, W
  std::int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0};
  std::int64_t out_height = 0, out_width = 0;
  int element_bytes = 4;
  const void* x = nullptr;
  std::int64_t x_stride[4] = {0, 0, 0, 0};  // elements
  void* y = nullptr;                        // (B, out_height, out_width, C * kernel[0] * kernel[1]), contiguous
};

struct MeanArgs {
  std::int64_t count = 0, rows = 0, columns = 0;  // count means of `rows` rows each
  Rows x;
  float* sums = nullptr;  // scratch, (count, parts, columns)
  std::int64_t parts = 0;
  void* y = nullptr;  // (count, columns) of x's type
};

}  // namespace tokens

MAMBASDK_DECLARE_KERNEL(void, unfold2d, const tokens::UnfoldArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, mean_rows, const tokens::MeanArgs&, const Parallel&);

}  // namespace mambasdk

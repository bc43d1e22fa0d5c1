// A tensor of (batch, depth, height, width, channels) whose channels are side by side, as kernels over windows and
// positions take it. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace mambasdk {

struct Map {
  const void* data = nullptr;
  DType type{2, 32};
  std::int64_t batch = 0, channels = 0;
  std::int64_t size[3] = {0, 0, 0};  // depth, height, width
  std::int64_t batch_stride = 0;     // elements
  std::int64_t stride[3] = {0, 0, 0};
};

}  // namespace mambasdk

// Convolutions of each channel for itself. Plain arguments of the kernels. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>

#include "ops/packed/windows.hpp"

namespace mambasdk {
namespace convolution {

struct DepthwiseArgs {
  const float* x = nullptr;       // channels are neighbours
  std::int64_t x_stride[4] = {};  // batch, depth, height, width
  std::int64_t batch = 1, channels = 0;
  std::int64_t in[3] = {}, out[3] = {}, kernel[3] = {}, stride[3] = {}, padding[3] = {}, dilation[3] = {};
  const float* weight = nullptr;  // (taps, channels)
  const float* bias = nullptr;    // (channels), or null
  packed::Results results = {};
};

// x (batch, *in, channels) of any strides into float32 without gaps.
struct CopyArgs {
  const void* x = nullptr;
  DType x_type{2, 32};
  std::int64_t x_stride[5] = {};
  std::int64_t batch = 1, in[3] = {}, channels = 0;
  float* to = nullptr;
};

}  // namespace convolution

MAMBASDK_DECLARE_KERNEL(void, convolution_depthwise, const convolution::DepthwiseArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, convolution_copy, const convolution::CopyArgs&, const Parallel&);

}  // namespace mambasdk

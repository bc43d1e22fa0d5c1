// Products of windows of an image with packed weights: convolutions, and, with windows of one element, the product of a
// matrix. Plain arguments of the kernel. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>

#include "ops/packed/results.hpp"
#include "ops/thread_scratch.hpp"

namespace mambasdk {
namespace packed {

// One element of a window along one dim: window i reads the input at i * step + offset, and multiplies it by the
// weight at `index` of the kernel.
struct Tap {
  std::int64_t offset = 0, index = 0;
};

// y[at(i)] = activation(window i of x times weights + bias + residual), for all windows i of a grid of (depth, height,
// width), or the residual behind the activation.
struct Windows {
  const void* x = nullptr;
  DType x_type{2, 32};
  std::int64_t x_stride[5] = {};  // batch, depth, height, width, channel
  std::int64_t batch = 1, in[3] = {1, 1, 1};
  std::int64_t groups = 1, channels = 0;  // channels of a group; groups are neighbours
  bool rounds = false;                    // x to bfloat16
  bool pairs = false;                     // products of pairs of bfloat16 are faster than of float32

  std::int64_t count[3] = {1, 1, 1}, step[3] = {1, 1, 1};
  const Tap* taps[3] = {};
  std::int64_t tap_count[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};

  // (groups, panels, kernel[0] * kernel[1] * kernel[2] * channels, kPackedColumns)
  const void* weight = nullptr;
  DType weight_type{2, 32};
  std::int64_t panels = 0, columns = 0;  // of a group

  std::int64_t out[3] = {1, 1, 1}, out_first[3] = {}, out_step[3] = {1, 1, 1};  // window i is at first + i * step
  const float* bias = nullptr;                                                  // (groups, panels, kPackedColumns)
  bool has_bias = false;  // else bias has kPackedColumns zeros, for every panel
  Results results = {};
};

}  // namespace packed

// False when the scratch ran out.
MAMBASDK_DECLARE_KERNEL(bool, window_products, const packed::Windows& windows, const Parallel& parallel,
                        const ThreadScratch& scratch);

}  // namespace mambasdk

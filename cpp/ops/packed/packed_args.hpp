// Plain arguments of the packing kernel. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "kernels/packed.hpp"

namespace mambasdk {
namespace packed {

// A matrix (columns, taps * channels) to be packed: element (o, t, c) is at o * column_stride + tap_offset[t] + c *
// channel_stride.
struct PackArgs {
  const void* weight = nullptr;
  DType type{2, 32};
  std::int64_t columns = 0, taps = 1, channels = 0;
  std::int64_t column_stride = 0, channel_stride = 1;
  const std::int64_t* tap_offset = nullptr;
  void* panels = nullptr;  // of `type`
};

}  // namespace packed

MAMBASDK_DECLARE_KERNEL(void, pack_panels, const packed::PackArgs&, const Parallel&);

}  // namespace mambasdk

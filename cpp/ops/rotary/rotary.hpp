// rotary: argument structs of the kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "core/strided.hpp"

namespace mambasdk {

class Registry;
void register_rotary(Registry& registry);

namespace rotary {

// No extent is 0 but pairs.
struct Args {
  std::int64_t batch = 0, length = 0, heads = 0, width = 0, pairs = 0;  // B L H E R
  DType type{2, 32};
  StridedView x;         // (B, L, H, E)
  StridedView cos, sin;  // (L, R) of float32
  bool interleaved = false;
  float* tables = nullptr;  // scratch, (L, 2, R): sines and cosines of unit stride, where those given are not
  void* y = nullptr;        // (B, L, H, E), contiguous
};

}  // namespace rotary

MAMBASDK_DECLARE_KERNEL(void, rotary, const rotary::Args& a, const Parallel& parallel);

}  // namespace mambasdk

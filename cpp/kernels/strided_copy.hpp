// Copies between tensors of one shape and any strides, at the speed of memory where rows or columns lie together.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "kernels/tiling.hpp"

namespace mambasdk {

struct Tensor;

struct CopyArgs {
  Tiling tiles;  // of `to` and `from`
  int element_bytes = 4;
  const void* from = nullptr;
  void* to = nullptr;
};

// Element by element what `from` holds; `to` has the same shape and element size, and shares no memory with it.
void strided_copy(const Tensor& from, const Tensor& to, const Parallel& parallel);
// The same in plain loops, for reference kernels: elements of any size.
void reference_copy(const Tensor& from, const Tensor& to);

MAMBASDK_DECLARE_KERNEL(void, copy_tiles, const CopyArgs&, const Parallel&);

}  // namespace mambasdk

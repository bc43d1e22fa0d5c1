// Memory of its own for a tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.hpp"
#include "core/tensor.hpp"

namespace mambasdk::runtime {

// A contiguous tensor that owns its memory (64-byte aligned), which lies at one place and is used on its stream.
struct OwnedTensor {
  std::shared_ptr<std::byte[]> memory;
  Tensor view;

  // Errors: invalid_argument (a shape that 63 bits do not hold), out_of_memory.
  static OwnedTensor allocate(DType dtype, const std::int64_t* shape, int ndim, const Place& place = Place::host());
};

}  // namespace mambasdk::runtime

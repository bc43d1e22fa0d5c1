// One element of a tensor as a double, whatever its floating-point type: for scalar reference kernels and packing code.
#pragma once

#include <cstdint>

#include "core/dtype.hpp"

namespace mambasdk {

inline double load_element(const void* data, DType type, std::int64_t index) {
  if (type == dtype::f64) return static_cast<const double*>(data)[index];
  if (type == dtype::f32) return static_cast<double>(static_cast<const float*>(data)[index]);
  if (type == dtype::bf16) return static_cast<double>(to_float(static_cast<const bf16*>(data)[index]));
  return static_cast<double>(to_float(static_cast<const f16*>(data)[index]));
}

inline void store_element(void* data, DType type, std::int64_t index, double value) {
  if (type == dtype::f64) {
    static_cast<double*>(data)[index] = value;
  } else if (type == dtype::f32) {
    static_cast<float*>(data)[index] = static_cast<float>(value);
  } else if (type == dtype::bf16) {
    static_cast<bf16*>(data)[index] = from_float<bf16>::cast(static_cast<float>(value));
  } else {
    static_cast<f16*>(data)[index] = from_float<f16>::cast(static_cast<float>(value));
  }
}

}  // namespace mambasdk

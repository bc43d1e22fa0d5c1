// Entry points to the vector mathematics of core/simd.hpp, per instruction set, for its test and for measurements.
#pragma once

#include <cstdint>

#include "core/isa.hpp"

namespace mambasdk {

enum class SimdFunction : int { exp2, exp, log, log1p, softplus, sigmoid, silu, round_bf16, round_f16 };

// y[i] = function(x[i]) for i < n; round_bf16 and round_f16 store to the 16-bit type and load it again.
MAMBASDK_DECLARE_KERNEL(void, simd_evaluate, SimdFunction function, const float* x, float* y, std::int64_t n);
// Sum of n floats by load_n and reduce_add.
MAMBASDK_DECLARE_KERNEL(float, simd_sum, const float* x, std::int64_t n);

}  // namespace mambasdk

// Arguments whose dtype is not that of the others: what may stand beside what.
#pragma once

#include "core/call.hpp"

namespace mambasdk {

// The argument, a tensor or absent, has `type`, or is float32 beside a 16-bit `type`. Throws Error(invalid_argument).
void check_same_or_wider(const NamedTensor& argument, DType type);
// The argument, a state, is float32, bfloat16 or float16; float64 beside float64. Throws Error(invalid_argument).
void check_state_type(const NamedTensor& argument, DType type);

}  // namespace mambasdk

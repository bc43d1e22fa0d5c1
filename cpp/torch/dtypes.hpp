// Element types between torch and the C ABI, from the table of core/dtype_table.hpp.
#pragma once

#include <cstdint>
#include <string>

#include "mambasdk/mambasdk.h"

namespace mambasdk::torch_adapter {

// Throws std::runtime_error where torch lacks the type.
std::int32_t torch_dtype(mambasdk_dtype wanted);
// Whether the table has torch's type; then `out` is it.
bool dtype_of_torch(std::int32_t dtype, mambasdk_dtype& out);
// "float64, float32, …": those that operations take.
std::string computed_dtypes();

}  // namespace mambasdk::torch_adapter

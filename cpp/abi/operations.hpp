// Operations over the C ABI: the table's slots, and the wrapping of a plugin's kernel.
#pragma once

#include "core/op.hpp"
#include "mambasdk/mambasdk.h"

namespace mambasdk::abi {

std::uint64_t op_list(const mambasdk_op** out, std::uint64_t capacity);
const mambasdk_op* op_find(mambasdk_string name);
mambasdk_string op_describe(const mambasdk_op* op);
mambasdk_status* op_plan(const mambasdk_op* op, const mambasdk_value* inputs, std::uint64_t input_count,
                         mambasdk_output_plan* outputs, std::uint64_t output_count);
mambasdk_status* op_call(const mambasdk_op* op, const mambasdk_context* context, const mambasdk_value* inputs,
                         std::uint64_t input_count, const mambasdk_tensor* outputs, std::uint64_t output_count,
                         std::int32_t kernel);

[[nodiscard]] Kernel wrap_kernel(mambasdk_kernel_fn function, void* self);

}  // namespace mambasdk::abi

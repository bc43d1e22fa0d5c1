#include "ops/mixed_types.hpp"

namespace mambasdk {
namespace {

[[noreturn]] void refuse(const NamedTensor& argument, const std::string& expected, DType beside) {
  fail(ErrorCode::invalid_argument, argument.operation, ": ", argument.name, " is ", dtype_name(argument.tensor->dtype),
       ", expected ", expected, " beside ", dtype_name(beside));
}

}  // namespace

void check_same_or_wider(const NamedTensor& argument, DType type) {
  if (argument.tensor == nullptr || argument.tensor->dtype == type) return;
  const bool half = type.bits == 16;
  if (half && argument.tensor->dtype == dtype::f32) return;
  refuse(argument, half ? concat(dtype_name(type), " or f32") : dtype_name(type), type);
}

void check_state_type(const NamedTensor& argument, DType type) {
  if (argument.tensor == nullptr) return;
  const bool wide = argument.tensor->dtype == dtype::f64;
  if (wide != (type == dtype::f64)) refuse(argument, type == dtype::f64 ? "f64" : "f32, bf16 or f16", type);
}

}  // namespace mambasdk

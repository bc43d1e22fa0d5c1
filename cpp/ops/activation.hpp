// The functions that a product applies to its results while they are in cache. Safe to include from *.isa.cpp.
#pragma once

#include <string>
#include <string_view>

#include "ops/elementwise/table.hpp"

// X(name, value): an expression of the result x and the argument `slope` p, compiled as the scalar and as the vector
// form, as those of elementwise operations are. Their numbers in a program are their places here: new ones come last.
#define MAMBASDK_ACTIVATION_OF(name) name##_function::value(x, zero(), zero(), p, p)
#define MAMBASDK_ACTIVATIONS(X)                     \
  X(none, x)                                        \
  X(relu, MAMBASDK_ACTIVATION_OF(relu))             \
  X(gelu, gelu(x))                                  \
  X(gelu_tanh, gelu_tanh(x))                        \
  X(silu, silu(x))                                  \
  X(sigmoid, sigmoid(x))                            \
  X(tanh, tanh(x))                                  \
  X(leaky_relu, MAMBASDK_ACTIVATION_OF(leaky_relu)) \
  X(hardswish, MAMBASDK_ACTIVATION_OF(hardswish))

namespace mambasdk {

#define MAMBASDK_ACTIVATION_NAME(name, ...) name,
enum class Activation : int { MAMBASDK_ACTIVATIONS(MAMBASDK_ACTIVATION_NAME) };
#undef MAMBASDK_ACTIVATION_NAME

// The argument `activation` of an operation. Throws Error(invalid_argument) where it names none.
[[nodiscard]] Activation activation_of(std::string_view operation, std::int64_t number);
// "0 none, 1 relu, …", for documentation.
[[nodiscard]] std::string activation_list();
// In double.
[[nodiscard]] double activated(Activation activation, double x, double slope);

}  // namespace mambasdk

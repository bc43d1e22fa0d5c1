// The small operations between the large ones, element by element. Argument struct of their kernel.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_elementwise(Registry& registry);

namespace elementwise {

enum class Function : int { add, multiply, silu_mul, neg_exp, gelu, relu, leaky_relu, sigmoid, scale };

constexpr bool is_binary(Function f) {
  return f == Function::add || f == Function::multiply || f == Function::silu_mul;
}

struct Args {
  Function function = Function::add;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Rows first;
  Rows second;             // of the binary ones
  float parameter = 0.0f;  // slope of leaky_relu, factor of scale
  void* out = nullptr;     // (rows, columns), contiguous
  DType type{2, 32};
};

}  // namespace elementwise

MAMBASDK_DECLARE_KERNEL(void, elementwise_rows, const elementwise::Args&, const Parallel&);

}  // namespace mambasdk

// add, silu_mul and neg_exp: the small operations between the large ones. Argument struct of their kernel.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_elementwise(Registry& registry);

namespace elementwise {

enum class Function : int { add, silu_mul, neg_exp };

struct Args {
  Function function = Function::add;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  Rows first;
  Rows second;          // absent for neg_exp
  void* out = nullptr;  // (rows, columns), contiguous
  DType type{2, 32};
};

}  // namespace elementwise

MAMBASDK_DECLARE_KERNEL(void, elementwise_rows, const elementwise::Args&, const Parallel&);

}  // namespace mambasdk

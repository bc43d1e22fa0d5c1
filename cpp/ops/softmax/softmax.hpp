// Softmax over the last dim. Argument struct of the kernel.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_softmax(Registry& registry);

namespace softmax {

struct Args {
  bool log = false;
  std::int64_t rows = 0, columns = 0;
  Rows x;
  void* y = nullptr;  // (rows, columns) of x's type, contiguous
};

}  // namespace softmax

MAMBASDK_DECLARE_KERNEL(void, softmax_rows, const softmax::Args&, const Parallel&);

}  // namespace mambasdk

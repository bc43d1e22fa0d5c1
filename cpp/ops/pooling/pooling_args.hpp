// max_pool, average_pool and their adaptive forms. Argument structs of the kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/map.hpp"

namespace mambasdk {

namespace pooling {

// What one output position sees of one axis: x at first, first + step, …, `count` of them, all inside.
struct Window {
  std::int64_t first = 0, count = 0;
  double divisor = 1.0;  // of an average: how many positions count, those in the padding that do among them
};

struct Axis {
  const Window* windows = nullptr;
  std::int64_t size = 0;  // of the output
  std::int64_t step = 1;
};

struct Args {
  Map x;
  Axis axis[3] = {};  // depth, height, width
  bool is_max = false;
  double divisor = 0.0;             // of every average; 0: the product of its windows'
  std::int64_t block_channels = 0;  // a task has a row of the output in this many channels
  void* y = nullptr;                // (batch, depth, height, width, channels) of x's type
};

}  // namespace pooling

MAMBASDK_DECLARE_KERNEL(void, pool, const pooling::Args&, const Parallel&);

}  // namespace mambasdk

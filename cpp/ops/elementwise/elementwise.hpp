// The small operations between the large ones, element by element. Argument struct of their kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "kernels/tiling.hpp"
#include "ops/elementwise/table.hpp"

namespace mambasdk {

class Registry;
void register_elementwise(Registry& registry);

namespace elementwise {

#define MAMBASDK_ELEMENTWISE_NAME(name, ...) name,
enum class Function : int {
  MAMBASDK_ELEMENTWISE(MAMBASDK_ELEMENTWISE_NAME, MAMBASDK_ELEMENTWISE_NAME, MAMBASDK_ELEMENTWISE_NAME)
};
#undef MAMBASDK_ELEMENTWISE_NAME

inline constexpr int kMostInputs = 4, kMostOutputs = 3;
// Of a tile: buffers of 16-bit arguments stay in the first-level cache, float32 mostly needs none.
inline constexpr std::int64_t kHalfElements = 1024, kFloatElements = 4096;
inline constexpr std::int64_t kTransposedElements = 8192, kTransposedColumns = 128;

// A function's arguments and its value or, of a gradient, the output's gradient, the arguments and their gradients.
struct Args {
  Function function = {};
  bool gradient = false;
  float parameters[2] = {};
  Tiling tiles;  // of the outputs, then of each input
  struct Array {
    void* data = nullptr;  // null: there is none
    DType type{2, 32};
  };
  Array in[kMostInputs];
  Array out[kMostOutputs];  // contiguous
};

// n elements, whole vectors; in and out as in Args.
using Piece = void (*)(const float* const (&in)[kMostInputs], const float (&parameters)[2],
                       float* const (&out)[kMostOutputs], std::int64_t n);

}  // namespace elementwise

MAMBASDK_DECLARE_KERNEL(elementwise::Piece, elementwise_piece, elementwise::Function, bool);
MAMBASDK_DECLARE_KERNEL(void, elementwise_tiles, const elementwise::Args&, const Parallel&);

}  // namespace mambasdk

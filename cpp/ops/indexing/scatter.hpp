// Whole rows of x grouped by the row that they are added to. Argument struct of scatter_add's kernel.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/matrices.hpp"

namespace mambasdk {
namespace indexing {

struct ScatterArgs {
  Matrices initial, x;  // of (M, D), of (L, D)
  // Of matrix b: the rows of x for row m are order[b L + first[b (M + 1) + m] …], in their own order.
  const std::int64_t *first = nullptr, *order = nullptr;
  void* y = nullptr;  // as initial, contiguous
};

}  // namespace indexing

MAMBASDK_DECLARE_KERNEL(void, scatter_add_rows, const indexing::ScatterArgs&, const Parallel&);

}  // namespace mambasdk

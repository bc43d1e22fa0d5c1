// Reductions and running sums along the rows of matrices, and where the extremes are. Argument structs of the kernels.
#pragma once

#include <cstdint>

#include "core/isa.hpp"
#include "ops/matrices.hpp"

namespace mambasdk {

class Registry;
void register_reduce(Registry& registry);

namespace reduce {

void register_arguments(Registry& registry);
void register_cumulative(Registry& registry);

enum class Reduction : int { sum, product, maximum, minimum };

// Columns that are reduced together, their results in the first-level cache; rows that are reduced at once, whose
// results are joined in order: of columns that lie side by side, and, of fewer than kFewColumns of them or of one that
// lies in one run, as many as have kPartRun elements.
inline constexpr std::int64_t kColumns = 1024, kFewColumns = 16, kPartRows = 256, kPartRun = 16384;

// How the columns of matrices are reduced: one by one where each lies in one run, or there is one only.
MAMBASDK_ALWAYS_INLINE bool is_by_column(const Matrices& m) {
  return m.columns == 1 || (m.matrix.element_stride == 1 && m.column_stride != 1);
}
MAMBASDK_ALWAYS_INLINE std::int64_t part_rows(const Matrices& m) {
  if (is_by_column(m)) return kPartRun;
  return m.columns < kFewColumns ? kPartRun / m.columns : kPartRows;
}
MAMBASDK_ALWAYS_INLINE std::int64_t part_count(const Matrices& m) {
  return m.rows > 0 ? (m.rows - 1) / part_rows(m) + 1 : 1;
}
MAMBASDK_ALWAYS_INLINE std::int64_t block_count(const Matrices& m) {
  return (m.columns - 1) / kColumns + 1;
}

struct Args {
  Reduction reduction = {};
  Matrices matrices;
  float divisor = 1.0f;      // of the result
  float* partial = nullptr;  // scratch, (count, parts, columns); null where there is one part
  void* y = nullptr;         // (count, columns) of x's type, contiguous
};

// The first of the largest elements of each column, or of the smallest; NaN is both.
struct ArgumentArgs {
  bool smallest = false;
  Matrices matrices;
  float* values = nullptr;          // scratch, (count, parts, columns)
  std::int32_t* indices = nullptr;  // likewise; the result where there is one part
  std::int32_t* y = nullptr;        // (count, columns)
};

struct CumulativeArgs {
  Matrices matrices;
  void* y = nullptr;  // (count, rows, columns) of x's type, contiguous
};

}  // namespace reduce

MAMBASDK_DECLARE_KERNEL(void, reduce_rows, const reduce::Args&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, argument_rows, const reduce::ArgumentArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, cumulative_rows, const reduce::CumulativeArgs&, const Parallel&);

}  // namespace mambasdk

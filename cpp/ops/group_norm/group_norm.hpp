// group_norm and scale_shift: channels of (batch, rows, channels) taken to another mean and size. Argument structs of
// the kernels.
//
// Where rows follow each other in memory and have few channels, several of them are one row of the kernels, whose
// columns then are no channels but places that belong to one.
#pragma once

#include <cstdint>

#include "ops/rows.hpp"

namespace mambasdk {

class Registry;
void register_group_norm(Registry& registry);

namespace group_norm {

inline constexpr std::int64_t kPartRows = 64;       // rows whose statistics are taken together
inline constexpr std::int64_t kPartColumns = 1024;  // of one task

// Of each column: the mean less the column's first element, so that rows far from 0 keep their digits, and the sum of
// squared deviations from it.
struct ColumnArgs {
  const void* x = nullptr;
  DType type{2, 32};
  std::int64_t batch = 0, rows = 0, columns = 0;
  std::int64_t batch_stride = 0, row_stride = 0;  // elements
  std::int64_t parts = 0;                         // of kPartRows rows each, the last may have fewer
  float* partial = nullptr;                       // scratch, (batch, parts, 2, columns)
  float* out = nullptr;                           // (batch, 2, columns)
};

// y = (x - mean) scale + shift, column by column.
struct AffineArgs {
  const void* x = nullptr;
  DType type{2, 32};
  std::int64_t batch = 0, rows = 0, columns = 0;
  std::int64_t last_columns = 0;         // of the last row of each batch entry
  const std::int64_t* offset = nullptr;  // where rows begin, in elements; null: as the strides say
  std::int64_t batch_stride = 0, row_stride = 0;
  const float* mean = nullptr;  // (batch, columns), or null for 0
  const float* scale = nullptr;
  const float* shift = nullptr;
  std::int64_t table_stride = 0;  // from one batch entry's to the next's
  std::int64_t y_batch_stride = 0;
  void* y = nullptr;  // rows one behind the other, of x's type
};

}  // namespace group_norm

MAMBASDK_DECLARE_KERNEL(void, column_statistics, const group_norm::ColumnArgs&, const Parallel&);
MAMBASDK_DECLARE_KERNEL(void, affine_columns, const group_norm::AffineArgs&, const Parallel&);

}  // namespace mambasdk

// A tensor as rows of its last dim, for kernels that read each row into float32 and do not care about the dims before.
#pragma once

#include <cstdint>
#include <vector>

#include "core/isa.hpp"

namespace mambasdk {

struct Tensor;

// Row r begins at element offset[r] of data, or r * stride where offset is null. Absent when data is null.
struct Rows {
  const void* data = nullptr;
  const std::int64_t* offset = nullptr;
  std::int64_t stride = 0;
  std::int64_t element_stride = 1;
  DType type{2, 32};
};

// Product of all dims but the last; 1 for a scalar.
[[nodiscard]] std::int64_t row_count(const Tensor& t);
// Where row r of a (*, D) tensor begins, in elements.
[[nodiscard]] std::int64_t row_offset(const Tensor& t, std::int64_t r);
// Leading dims that no single stride describes get a table of offsets, kept in `offsets`. Absent for null.
[[nodiscard]] Rows rows_view(const Tensor* t, std::vector<std::int64_t>& offsets);

// `rows` of `columns` elements each to the contiguous `out` of the same type.
MAMBASDK_DECLARE_KERNEL(void, copy_rows, const Rows& in, std::int64_t rows, std::int64_t columns, void* out,
                        const Parallel& parallel);

}  // namespace mambasdk

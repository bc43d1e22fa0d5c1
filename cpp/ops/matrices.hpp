// A (*, L, D) tensor as matrices, whatever the dims before and the strides. Safe to include from *.isa.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/rows.hpp"

namespace mambasdk {

// `count` matrices of (rows, columns).
struct Matrices {
  std::int64_t count = 0, rows = 0, columns = 0;
  Rows matrix;  // a row of it is a matrix, its elements are the matrix's rows
  std::int64_t column_stride = 1;

  // Where an element is, in elements from matrix.data.
  MAMBASDK_ALWAYS_INLINE std::int64_t offset(std::int64_t m, std::int64_t row, std::int64_t column) const {
    const std::int64_t start = matrix.offset != nullptr ? matrix.offset[m] : m * matrix.stride;
    return start + row * matrix.element_stride + column * column_stride;
  }
};

// Of a tensor with elements. `offsets` keeps a table where the leading dims need one.
[[nodiscard]] Matrices matrices_of(const Tensor& t, std::vector<std::int64_t>& offsets);

}  // namespace mambasdk

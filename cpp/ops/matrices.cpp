#include "ops/matrices.hpp"

#include "core/tensor.hpp"

namespace mambasdk {

Matrices matrices_of(const Tensor& t, std::vector<std::int64_t>& offsets) {
  Tensor rows = t;  // without its columns
  rows.ndim = t.ndim - 1;
  return {.count = row_count(rows),
          .rows = t.size(-2),
          .columns = t.size(-1),
          .matrix = rows_view(&rows, offsets),
          .column_stride = t.stride(-1)};
}

}  // namespace mambasdk
